"""Check an exported program as text, and write it anew without what torch would evaluate or unpickle.

Reading one is more than reading: ``torch.export.load`` hands size expressions to ``sympy.sympify``, which
evaluates them as Python; follows operator names from ``torch`` to anything below it; writes names into the
source of a function, which it executes; and imports modules that an output structure names. So each string
is held to the form that ``torch.export.save`` gives it, and what only serves debugging is left out.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from eqaudit.bounds import BOUNDS
from eqaudit.errors import ModelError
from eqaudit.loader.effects import check_operators
from eqaudit.loader.kinds import EXPORT_AGAIN

_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PLACE: Final = re.compile(r"""[^"\\\x00-\x1f\x7f]*""")
"""A dotted name. It may become a quoted string in generated source, which these could leave."""
_OPERATOR: Final = re.compile(
    r"torch\.ops\.(?:aten|prims)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(?:cond|while_loop|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\._?sym_(?:int|float|max|min|not|sqrt|sum|ite)"
    r"|_operator\.(?:getitem|add|sub|mul|truediv|floordiv|mod|neg|pos|abs|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(?:ceil|floor|trunc|sqrt)",
    re.ASCII,
)
_LIBRARY: Final = re.compile(r"torch\.ops\.(?!higher_order\.)(\w+)\.(\w+)\.\w+", re.ASCII)
_SYMBOL: Final = re.compile(r"[a-z]{1,3}\d{1,9}", re.ASCII)
_WHOLE_SYMBOL: Final = re.compile(
    r"Symbol\('[a-z]{1,3}\d{1,9}'(?:, (?:positive|integer|nonnegative|real|nonzero)=(?:True|False))*\)",
    re.ASCII,
)
_FLOAT: Final = re.compile(r"Float\('[-+.\de]{1,40}', precision=\d{1,3}\)", re.ASCII)
# Other exponents could be numbers that take for ever to compute.
_POWER: Final = re.compile(r"(?:Pow|PowByNatural|FloatPow)\([a-z]{1,3}\d{1,9}, Integer\(-?\d\)\)", re.ASCII)
_EXPRESSION: Final = re.compile(r"(?:\d{1,19}|[A-Za-z]\w*|\*(?!\*)|[-+/%(),<>=!&|~ ])*", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z]\w*", re.ASCII)
_FUNCTION: Final = re.compile(
    r"Add|Mul|Integer|Rational|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|Where|Identity"
    r"|CeilToInt|FloorToInt|TruncToInt|RoundToInt|TruncToFloat|ToFloat|FloatTrueDiv|IntTrueDiv|floor|ceiling"
    r"|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality|(?:Strict)?(?:Less|Greater)Than|And|Or|Not|[Tt]rue|[Ff]alse"
)
_STRUCTURES: Final = {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_REFUSED_KEYS: Final = {
    "as_custom_obj": "a custom object",
    "custom_obj": "a custom object",
    "as_operator": "an operator as an argument",
}


def clean_program(data: bytes) -> bytes:
    """Check ``models/model.json`` and return what torch may read of it.

    Devices become the CPU; stack traces, guards written in Python and other metadata are left out.

    Raises
    ------
    ModelError
        It is no exported program, has an operator of another package, or a string that is more than a name.
    """
    if len(data) > BOUNDS.pickle_bytes:
        raise ModelError(f"models/model.json is too large: {len(data)} bytes, limit {BOUNDS.pickle_bytes}")
    program = read_json("models/model.json", data)
    try:
        cleaned = clean_values(program)
        cleaned["guards_code"] = []
        cleaned["graph_module"]["metadata"] = {}
        cleaned["graph_module"]["treespec_namedtuple_fields"] = {}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"models/model.json: damaged ({type(error).__name__})", EXPORT_AGAIN) from error
    except RecursionError as error:
        raise ModelError("models/model.json: it nests too deep", EXPORT_AGAIN) from error
    return json.dumps(cleaned).encode()


def read_json(member: str, data: bytes) -> Any:
    """Parse a member of the archive.

    Raises
    ------
    ModelError
        It is no JSON text.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{member}: no JSON text ({type(error).__name__})", EXPORT_AGAIN) from error


def clean_values(value: Any, key: str = "") -> Any:
    """Return a copy of a JSON value with every string checked and every device the CPU.

    ``key`` is that of the nearest dictionary around it.

    Raises
    ------
    ModelError
        A string is more than what belongs there.
    """
    if isinstance(value, dict):
        return _clean_dictionary(value, key)
    if isinstance(value, list):
        return [clean_values(item, key) for item in value]
    if isinstance(value, str):
        return _TEXTS.get(key, _check_place)(value)
    return value


def _clean_dictionary(value: dict[str, Any], key: str) -> dict[str, Any]:
    for name in value:
        if name in _REFUSED_KEYS:
            raise ModelError(f"it holds {_REFUSED_KEYS[name]}: refused", EXPORT_AGAIN)
        _check_place(name)
    # By form too: a weight may have such a name.
    if key in {"device", "as_device"} and value.keys() <= {"type", "index"}:
        return {"type": "cpu", "index": None}
    if key == "metadata" and all(isinstance(text, str) for text in value.values()):
        return {name: _check_place(text) for name, text in value.items() if name == "nn_module_stack"}
    if key == "range_constraints":
        for symbol in value:
            _match(_SYMBOL, symbol, "the name of a size")
    return {name: clean_values(item, name) for name, item in value.items()}


def _match(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise ModelError(f"{text[:80]!r} is not {what}: refused, nothing was evaluated", EXPORT_AGAIN)
    return text


def _check_place(text: str) -> str:
    return _match(_PLACE, text, "a name")


def _check_identifier(text: str) -> str:
    return text and _match(_IDENTIFIER, text, "a name")


def _check_operator(text: str) -> str:
    library = _LIBRARY.fullmatch(text)
    if library:
        check_operators(["::".join(library.groups())])
    if not _OPERATOR.fullmatch(text):
        raise ModelError(
            f"operator {text[:80]} is not one of PyTorch's own: refused",
            "give the code that builds the model instead: path/to/file.py:factory",
        )
    return text


def _check_expression(text: str) -> str:
    plain = _WHOLE_SYMBOL.sub("s0", _FLOAT.sub("0", text))
    plain = _POWER.sub("s0", plain)
    what = "the expression of a size"
    _match(_EXPRESSION, plain, what)
    for word in _WORD.findall(plain):
        if not _FUNCTION.fullmatch(word):
            _match(_SYMBOL, word, what)
    return text


def _check_structure(text: str) -> str:
    """Check how inputs or outputs nest; named tuples become tuples, their classes may not exist here."""
    version, spec = json.loads(text)
    return json.dumps([int(version), _clean_structure(spec)])


def _clean_structure(spec: dict[str, Any]) -> dict[str, Any]:
    kind, context = spec["type"], spec["context"]
    children = [_clean_structure(child) for child in spec["children_spec"]]
    if kind is None:
        return {"type": None, "context": None, "children_spec": []}
    if kind == "collections.namedtuple":
        return {"type": "builtins.tuple", "context": "null", "children_spec": children}
    if kind not in _STRUCTURES:
        raise ModelError(
            f"its inputs or outputs are of type {str(kind)[:80]}, which this version does not read",
            "return tensors, tuples, lists or dictionaries, and export again",
        )
    keys = json.loads(context) if isinstance(context, str) else context
    if keys is not None and not all(isinstance(item, (str, int)) for item in keys):
        raise ModelError(f"a {kind} of its inputs or outputs has keys that are no text", EXPORT_AGAIN)
    return {"type": kind, "context": json.dumps(keys), "children_spec": children}


_TEXTS: Final[dict[str, Callable[[str], str]]] = {
    "name": _check_identifier,
    "as_name": _check_identifier,
    "forward_arg_names": _check_identifier,
    "target": _check_operator,
    "expr_str": _check_expression,
    "in_spec": _check_structure,
    "out_spec": _check_structure,
    # Arguments stay values: they are quoted wherever they are written.
    "as_string": str,
    "as_strings": str,
}
