# SPDX-License-Identifier: Apache-2.0
"""Parse the text of one EDL file into a document; imports are named, not followed.

The grammar is that of the Intel SGX SDK developer reference ("Enclave Definition Language
Syntax"). It nests to a fixed depth, so the parser needs no recursion.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ensconce.edl.attributes import (
    Attribute,
    apply_to_function,
    apply_to_member,
    apply_to_parameter,
)
from ensconce.edl.lexer import Token, TokenKind, error
from ensconce.edl.model import (
    BUILTINS,
    VOID,
    Composite,
    Ecall,
    EnumDefinition,
    Enumerator,
    Kind,
    Member,
    Ocall,
    Parameter,
    Position,
    StructDefinition,
    Type,
    UnionDefinition,
)
from ensconce.edl.preprocessor import Reader, tokens

__all__ = ["Document", "Import", "parse"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS = _words(
    "enclave trusted untrusted from import allow public transition_using_threads include "
    "propagate_errno const struct union enum"
)
_SINGLE_TYPES = _words(
    "char int float double int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t "
    "size_t wchar_t void"
)
_TYPE_WORDS = _SINGLE_TYPES | {"short", "long", "unsigned"}
_C_KEYWORDS = _words(
    "auto break case continue default do else extern for goto if inline register restrict return "
    "signed sizeof static switch typedef volatile while"
)
_TAGS = {"struct": Kind.STRUCT, "union": Kind.UNION, "enum": Kind.ENUM}
# The words that may follow one another in a type, and the type's one spelling.
_SPELLINGS = {
    **{name: name for name in _SINGLE_TYPES},
    "unsigned char": "unsigned char",
    "short": "short int",
    "short int": "short int",
    "long": "long int",
    "long int": "long int",
    "long long": "long long",
    "long double": "long double",
    "unsigned": "unsigned int",
    "unsigned int": "unsigned int",
    "unsigned short": "unsigned short int",
    "unsigned short int": "unsigned short int",
    "unsigned long": "unsigned long int",
    "unsigned long int": "unsigned long int",
    "unsigned long long": "unsigned long long",
}
assert set(_SPELLINGS.values()) == set(BUILTINS)  # noqa: S101 - checked once, at import

_MAX_ELEMENTS = 1 << 36  # as many bytes as the largest enclave has


@dataclass(frozen=True, slots=True)
class Import:
    """One `from "file" import …`; `names` is None for everything."""

    path: str
    names: tuple[str, ...] | None
    position: Position = field(compare=False, repr=False)


@dataclass(slots=True)
class Document:
    """What one EDL file says, in its order."""

    includes: list[str] = field(default_factory=list)
    trusted_includes: list[str] = field(default_factory=list)
    untrusted_includes: list[str] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    composites: list[Composite] = field(default_factory=list)
    ecalls: list[Ecall] = field(default_factory=list)
    ocalls: list[Ocall] = field(default_factory=list)


def parse(text: str, source: str = "<edl>", read: Reader | None = None) -> Document:
    """Parse the text of one EDL file; raises FormatError at the first fault.

    `read` is asked only for what the file takes in with #include.
    """
    return _Parser(tokens(text, source, read), source).document()


class _Parser:
    """Recursive descent with one token of look-ahead."""

    def __init__(self, tokens: Iterator[Token], source: str) -> None:
        self._tokens = tokens
        self._last = Position(source, 1, 1)
        self.token = self._next()

    def _next(self) -> Token:
        return next(self._tokens, Token(TokenKind.END, "", self._last))

    # Tokens

    def _advance(self) -> Token:
        token = self.token
        self._last = token.position
        self.token = self._next()
        return token

    def _is(self, text: str) -> bool:
        return self.token.text == text and self.token.kind in (TokenKind.NAME, TokenKind.MARK)

    def _accept(self, text: str) -> bool:
        if self._is(text):
            self._advance()
            return True
        return False

    def _expect(self, text: str, where: str) -> Token:
        if not self._is(text):
            raise self._unexpected(f"`{text}` {where}")
        return self._advance()

    def _unexpected(self, expected: str) -> Exception:
        return error(self.token.position, f"found {self.token}, expected {expected}")

    def _string(self, what: str) -> str:
        if self.token.kind is not TokenKind.STRING:
            raise self._unexpected(f"{what} in double quotes")
        if not self.token.text:
            raise error(self.token.position, f"{what} is empty: write the file's name")
        return self._advance().text

    def _number(self, what: str) -> int:
        if self.token.kind is not TokenKind.NUMBER:
            raise self._unexpected(what)
        return int(self._advance().text)

    def _identifier(self, what: str) -> Token:
        if self.token.kind is not TokenKind.NAME or self.token.text in _TYPE_WORDS:
            raise self._unexpected(what)
        if self.token.text in _WORDS or self.token.text in _C_KEYWORDS:
            raise error(
                self.token.position,
                f"`{self.token.text}` is a word of the language: choose another name for {what}",
            )
        return self._advance()

    # The file

    def document(self) -> Document:
        document = Document()
        self._expect("enclave", "at the start of the file")
        self._expect("{", "after `enclave`")
        while not self._accept("}"):
            self._section(document)
        self._expect(";", "after the enclave's closing brace")
        if self.token.kind is not TokenKind.END:
            raise self._unexpected("the end of the file: an EDL file holds one enclave")
        return document

    def _section(self, document: Document) -> None:
        word = self.token.text if self.token.kind is TokenKind.NAME else ""
        if word == "include":
            document.includes.append(self._include())
        elif word in ("from", "import"):
            document.imports.append(self._import())
        elif word in _TAGS:
            document.composites.append(self._composite())
        elif word == "trusted":
            self._block(document.trusted_includes)
            while not self._accept("}"):
                document.ecalls.append(self._ecall())
            self._expect(";", "after the trusted block")
        elif word == "untrusted":
            self._block(document.untrusted_includes)
            while not self._accept("}"):
                document.ocalls.append(self._ocall())
            self._expect(";", "after the untrusted block")
        else:
            raise self._unexpected(
                "include, from, import, struct, union, enum, trusted, untrusted or `}`"
            )

    def _include(self) -> str:
        self._advance()
        name = self._string("a header's name")
        if self._is(";"):
            raise error(self.token.position, "`include` takes no semicolon: remove it")
        return name

    def _import(self) -> Import:
        position = self.token.position
        if self._accept("import"):
            path, names = self._string("an EDL file's name"), None
        else:
            self._advance()
            path = self._string("an EDL file's name")
            self._expect("import", "after the file's name")
            names = None if self._accept("*") else self._names("a function to import")
        self._expect(";", "after the import")
        return Import(path, names, position)

    def _names(self, what: str) -> tuple[str, ...]:
        names = [self._identifier(what).text]
        while self._accept(","):
            names.append(self._identifier(what).text)
        return tuple(names)

    def _block(self, includes: list[str]) -> None:
        word = self._advance().text
        self._expect("{", f"after `{word}`")
        while self._is("include"):
            includes.append(self._include())

    # Types

    def _composite(self) -> Composite:
        kind = _TAGS[self._advance().text]
        anonymous = kind is Kind.ENUM and self._is("{")
        position = self.token.position
        name = "" if anonymous else self._identifier(f"the {kind.value}").text
        self._expect("{", f"to begin the {kind.value}")
        if kind is Kind.ENUM:
            composite: Composite = EnumDefinition(name, self._enumerators(), position)
        else:
            members = self._members(kind)
            define = StructDefinition if kind is Kind.STRUCT else UnionDefinition
            composite = define(name, members, position)
        self._expect(";", f"after the {kind.value}")
        return composite

    def _enumerators(self) -> tuple[Enumerator, ...]:
        found: list[Enumerator] = []
        while True:
            name = self._identifier("an enumerator")
            value = self._value("an enumerator's value") if self._accept("=") else None
            found.append(Enumerator(name.text, value, name.position))
            if self._accept("}"):
                return tuple(found)
            self._expect(",", "or `}` after an enumerator")

    def _value(self, what: str) -> int | str:
        if self.token.kind is TokenKind.NUMBER:
            return self._number(what)
        return self._identifier(f"a number or a name as {what}").text

    def _members(self, kind: Kind) -> tuple[Member, ...]:
        members: list[Member] = []
        while not members or not self._is("}"):
            attributes = self._attributes() if kind is Kind.STRUCT else []
            if self._is("const"):
                raise error(self.token.position, "a member can't be const: remove it")
            if self._is("["):
                raise error(self.token.position, "a union's member takes no attributes")
            of = self._type()
            name = self._identifier("a member")
            if of.is_void:
                message = f"member `{name.text}` can't have the type void: give it another"
                raise error(name.position, message)
            bare = Member(name.text, of, self._dimensions(), position=name.position)
            self._expect(";", f"after the member `{name.text}`")
            members.append(apply_to_member(bare, attributes))
        self._advance()
        return tuple(members)

    def _type(self) -> Type:
        base = self._base_type()
        stars = 0
        while self._accept("*"):
            stars += 1
        return Type(base.kind, base.name, stars)

    def _base_type(self) -> Type:
        if self.token.kind is not TokenKind.NAME:
            raise self._unexpected("a type")
        word = self.token.text
        if word in _TAGS:
            self._advance()
            return Type(_TAGS[word], self._identifier(f"the {word}").text)
        if word not in _TYPE_WORDS:
            return Type(Kind.FOREIGN, self._identifier("a type").text)
        words = self._advance().text
        while self._continues(words):
            words = f"{words} {self._advance().text}"
        return Type(Kind.BUILTIN, _SPELLINGS[words])

    def _continues(self, words: str) -> bool:
        """True when the next word belongs to the type that `words` begins."""
        return self.token.kind is TokenKind.NAME and f"{words} {self.token.text}" in _SPELLINGS

    def _dimensions(self) -> tuple[int, ...]:
        dimensions: list[int] = []
        elements = 1
        while self._is("["):
            position = self._advance().position
            if self._is("]"):
                raise error(position, "an array of unknown size can't cross: state its size")
            dimension = self._number("the number of elements")
            self._expect("]", "after the number of elements")
            elements *= dimension
            if not 0 < elements <= _MAX_ELEMENTS:
                fault = "has no elements" if not dimension else "is larger than any enclave"
                raise error(position, f"this array {fault}: change its size")
            dimensions.append(dimension)
        return tuple(dimensions)

    # Functions

    def _attributes(self) -> list[Attribute]:
        if not self._is("["):
            return []
        position = self._advance().position
        if self._is("]"):
            raise error(position, "this attribute list is empty: remove it or fill it")
        attributes: list[Attribute] = []
        while True:
            if self.token.kind is not TokenKind.NAME:
                raise self._unexpected("an attribute")
            name = self._advance()
            value = self._value("an attribute's value") if self._accept("=") else None
            attributes.append(Attribute(name.text, value, name.position))
            if self._accept("]"):
                return attributes
            self._expect(",", "or `]` after an attribute")

    def _ecall(self) -> Ecall:
        public = self._accept("public")
        if self._is("["):
            raise error(self.token.position, "a trusted function takes no attributes: remove them")
        result, name, parameters = self._prototype()
        switchless = self._accept("transition_using_threads")
        self._expect(";", f"after the function `{name.text}`")
        return Ecall(name.text, result, parameters, switchless, name.position, public)

    def _ocall(self) -> Ocall:
        if self._is("public"):
            raise error(self.token.position, "`public` is for trusted functions: remove it")
        convention, imported = apply_to_function(self._attributes())
        result, name, parameters = self._prototype()
        allow = self._allow()
        suffixes = self._suffixes()
        self._expect(";", f"after the function `{name.text}`")
        return Ocall(
            name.text,
            result,
            parameters,
            "transition_using_threads" in suffixes,
            name.position,
            allow,
            "propagate_errno" in suffixes,
            convention,
            imported,
        )

    def _prototype(self) -> tuple[Type, Token, tuple[Parameter, ...]]:
        if self._is("include"):
            raise error(self.token.position, "`include` stands before the block's first function")
        if self._is("const"):
            raise error(self.token.position, "a result can't be const: remove it")
        result = self._type()
        if self._is("["):
            raise error(self.token.position, "a function can't return an array: return a pointer")
        name = self._identifier("a function")
        self._expect("(", f"after the function's name `{name.text}`")
        return result, name, self._parameters()

    def _allow(self) -> tuple[str, ...]:
        if not self._accept("allow"):
            return ()
        self._expect("(", "after `allow`")
        if self._accept(")"):
            return ()
        names = self._names("an ECALL to allow")
        self._expect(")", "after the ECALLs to allow")
        return names

    def _suffixes(self) -> set[str]:
        found: set[str] = set()
        while self._is("propagate_errno") or self._is("transition_using_threads"):
            token = self._advance()
            if token.text in found:
                raise error(token.position, f"`{token.text}` stands here twice: remove one")
            found.add(token.text)
        return found

    def _parameters(self) -> tuple[Parameter, ...]:
        if self._accept(")"):
            return ()
        parameters: list[Parameter] = []
        while True:
            attributes = self._attributes()
            const = self._accept("const")
            of = self._type()
            if of == VOID and self._is(")") and not (parameters or attributes or const):
                self._advance()
                return ()
            name = self._identifier("a parameter")
            bare = Parameter(name.text, of, self._dimensions(), const=const, position=name.position)
            parameters.append(apply_to_parameter(bare, attributes))
            if self._accept(")"):
                return tuple(parameters)
            self._expect(",", f"or `)` after the parameter `{name.text}`")
