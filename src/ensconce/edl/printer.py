# SPDX-License-Identifier: Apache-2.0
"""Write an enclave definition back as EDL text."""

from collections.abc import Iterator

from ensconce.edl.model import (
    Composite,
    Convention,
    Direction,
    Ecall,
    EnumDefinition,
    Function,
    Interface,
    Member,
    Ocall,
    Parameter,
    StructDefinition,
)

__all__ = ["prototype", "render"]


def render(interface: Interface) -> str:
    """Return EDL text that reads back as the same interface, imports written out."""
    lines = ["enclave {"]
    lines += [f'    include "{name}"' for name in interface.includes]
    for item in interface.composites:
        lines += [f"    {line}" for line in _composite(item)]
    for word, includes, functions in (
        ("trusted", interface.trusted_includes, interface.ecalls),
        ("untrusted", interface.untrusted_includes, interface.ocalls),
    ):
        lines.append(f"    {word} {{")
        lines += [f'        include "{name}"' for name in includes]
        lines += [f"        {prototype(function)};" for function in functions]
        lines.append("    };")
    return "\n".join((*lines, "};", ""))


def prototype(function: Function) -> str:
    """Return a function as EDL declares it, without the semicolon."""
    parameters = ", ".join(_parameter(item) for item in function.parameters) or "void"
    text = f"{function.result} {function.name}({parameters})"
    if isinstance(function, Ecall) and function.public:
        text = f"public {text}"
    if isinstance(function, Ocall):
        text = _prefix(function) + text
        if function.allow:
            text += f" allow({', '.join(function.allow)})"
        if function.propagate_errno:
            text += " propagate_errno"
    return f"{text} transition_using_threads" if function.switchless else text


def _prefix(ocall: Ocall) -> str:
    words = ["dllimport"] if ocall.dllimport else []
    if ocall.convention is not Convention.NONE:
        words.append(ocall.convention.name.lower())
    return f"[{', '.join(words)}] " if words else ""


def _sizes(item: Parameter | Member) -> Iterator[str]:
    if item.size is not None:
        yield f"size={item.size}"
    if item.count is not None:
        yield f"count={item.count}"


def _parameter(item: Parameter) -> str:
    flags = {
        "in": bool(item.direction & Direction.IN),
        "out": bool(item.direction & Direction.OUT),
        "string": item.string,
        "wstring": item.wstring,
        "isptr": item.isptr,
        "isary": item.isary,
        "readonly": item.readonly,
        "user_check": item.user_check,
    }
    words = [*(name for name, present in flags.items() if present), *_sizes(item)]
    attributes = f"[{', '.join(words)}] " if words else ""
    const = "const " if item.const else ""
    return f"{attributes}{const}{item.type} {item.name}{_dimensions(item)}"


def _dimensions(item: Parameter | Member) -> str:
    return "".join(f"[{dimension}]" for dimension in item.dimensions)


def _composite(item: Composite) -> Iterator[str]:
    if isinstance(item, EnumDefinition):
        yield f"enum {item.name} {{" if item.name else "enum {"
        for index, entry in enumerate(item.enumerators):
            value = "" if entry.value is None else f" = {entry.value}"
            yield f"    {entry.name}{value}{',' if index + 1 < len(item.enumerators) else ''}"
    else:
        kind = "struct" if isinstance(item, StructDefinition) else "union"
        yield f"{kind} {item.name} {{"
        for member in item.members:
            sizes = ", ".join(_sizes(member))
            attributes = f"[{sizes}] " if sizes else ""
            yield f"    {attributes}{member.type} {member.name}{_dimensions(member)};"
    yield "};"
