"""The reasons that no input of the campaign gives, by module and words of what they say, and why."""

CHANGES = "the file would have to change while the command runs"
CHECKED = "the command line, or another reader, refuses it before; for callers from Python"
MACHINE = "a fault of the machine, not of an input"
RIGHTS = "a file that may not be read: the campaign may run as root, who may read all"
VAST = "it takes longer, or more disk, than one input may"

UNREACHED = {
    "eqaudit.cli.drawing: pictures need a temporary folder": MACHINE,
    "eqaudit.cli.streams: standard output is closed": MACHINE,
    "eqaudit.cli.streams: standard output cannot be written": MACHINE,
    "eqaudit.cli.files: belongs to somebody else": RIGHTS,
    "eqaudit.cli.files: {folder} cannot be made: {error": CHANGES,
    "eqaudit.cli.files: OutputError(f'{path} cannot be written": MACHINE,
    "eqaudit.comparing: cannot be compared with model": CHANGES,
    "eqaudit.data: cannot be negative": CHECKED,
    "eqaudit.data.builtin: of scikit-image cannot be read": MACHINE,
    "eqaudit.data.dataset: no image can be read any more": CHANGES,
    "eqaudit.data.dataset: an image changed while it was used": CHANGES,
    "eqaudit.data.labels: cannot read {path}": CHANGES,
    "eqaudit.data.listing: cannot list {folder}": RIGHTS,
    "eqaudit.data.listing: folder_entries": VAST,
    "eqaudit.data.preprocessing: its shape is {image.shape}": CHECKED,
    "eqaudit.data.preprocessing: smaller than the crop of": CHECKED,
    "eqaudit.engine.audit: none_left": CHANGES,
    "eqaudit.judging: matches no layer that was measured": CHECKED,
    "eqaudit.loader.archive: no such file": CHANGES,
    "eqaudit.loader.archive: cannot be read: {reason": RIGHTS,
    "eqaudit.loader.archive: the file changed": CHANGES,
    "eqaudit.loader.exported: is no operator of this torch": CHECKED,
    "eqaudit.loader.machine: pickle_steps": VAST,
    "eqaudit.loader.safetensors: its header is no JSON object": CHECKED,
    "eqaudit.loader.torchscript: module calls in the graph": VAST,
    "eqaudit.parsing: no precision": CHECKED,
    "eqaudit.parsing: or 'the audit'": CHECKED,
    "eqaudit.pythonspec: is no Python source file": CHECKED,
    "eqaudit.transforms.layouts: {letters!r}: {problem}": CHECKED,
    "eqaudit.worker: cannot be started": MACHINE,
    "eqaudit.worker: import_failure": MACHINE,
}
