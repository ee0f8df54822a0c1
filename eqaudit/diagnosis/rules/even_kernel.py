"""`even-kernel`: a kernel of even size that keeps the size of the map has no centre."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect, window_of


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for ``padding="same"`` with an even kernel in breaking steps."""
    for step in scene.network.breaking:
        for operation in step.operations:
            window = window_of(operation)
            if window is not None and window.padding == "same" and not window.fits:
                kernel = "x".join(map(str, window.kernel))
                yield Suspect(f'{operation.name}: kernel {kernel} with padding "same"', step)


RULE = Rule("even-kernel", "use an odd kernel, or symmetric padding and a map that shrinks by one", find)
