"""Command grammars: text -> rules. The notation is JSGF's (JSpeech Grammar Format, W3C 2000).

A file begins with ``#JSGF V1.0;``, names itself, and has at least one public rule::

    #JSGF V1.0;
    grammar home;
    public <command> = (turn | switch) the <room> light (on | off) [please];
    <room> = kitchen | living room | bath {bathroom};   // a tag says it another way

Without that header every line is a phrase, or a rule that phrases refer to::

    (turn | switch) the <room> light (on | off) [please]
    <room> = kitchen | living room

There are sequences, ``|``, ``( )``, ``[ ]``, ``*``, ``+``, ``<rule>``, ``<NULL>``, ``<VOID>``,
``{tag}``, ``"two words"``, and comments. Weights and imports are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from speechrnn.errors import ConfigError
from speechrnn.labels import normalise_text

HEADER = re.compile(r"\ufeff?\s*#JSGF\b[^;\n]*;?")
# Also what holds no comments, though it may look so.
COMMENT = re.compile(r'(?P<kept>\{(?:\\.|[^}\\\n])*\}|"[^"\n]*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
LEXEME = re.compile(
    r'(?P<space>\s+)|(?P<rule><[^<>\s]+>)|(?P<tag>\{(?:\\.|[^}\\])*\})|(?P<quoted>"[^"]*")'
    r"|(?P<weight>/[^/\s]*/)|(?P<sign>[()\[\]|*+=;])|(?P<word>[^\s()\[\]{}|*+=;<>/\"]+)"
)
MOST_BRACKETS = 50
MOST_RULES = 100  # that each need the next
PHRASES = "phrase"  # the public rule of a file without a header


@dataclass(frozen=True)
class Words:
    """Words that are said one after another."""

    text: str


@dataclass(frozen=True)
class Reference:
    """What another rule says, which a recognised phrase gives back under the rule's name."""

    rule: str


@dataclass(frozen=True)
class Parts:
    """Parts that are said one after another; none of them is saying nothing."""

    parts: tuple[Expansion, ...]


@dataclass(frozen=True)
class Alternatives:
    """One of several; none of them cannot be said at all."""

    choices: tuple[Expansion, ...]


@dataclass(frozen=True)
class Repeated:
    """Something said again and again, at least so often."""

    part: Expansion
    at_least: int


@dataclass(frozen=True)
class Tagged:
    """Something that a recognised phrase gives back in other words."""

    part: Expansion
    tag: str


Expansion = Words | Reference | Parts | Alternatives | Repeated | Tagged
NOTHING, IMPOSSIBLE = Parts(()), Alternatives(())
SPECIAL: dict[str, Expansion] = {"<NULL>": NOTHING, "<VOID>": IMPOSSIBLE}


@dataclass(frozen=True)
class Rules:
    """The rules of a grammar.

    Attributes:
        expansions: Rule name -> what it says.
        public: The names of those that a whole utterance may be.
    """

    expansions: Mapping[str, Expansion]
    public: tuple[str, ...]


def parse_grammar(text: str, name: str = "grammar") -> Rules:
    """Read a grammar, and check that every rule can be reached and none refers to itself.

    Args:
        text: What the file holds.
        name: Of the file, for errors.

    Raises:
        ConfigError: A syntax error, an unknown, unreachable or cyclic rule, or nothing to say.
    """
    plain = COMMENT.sub(lambda found: found["kept"] or "\n" * found[0].count("\n"), text)
    header = HEADER.match(plain)
    rules = _read_jsgf(plain[header.end() :], name) if header else _read_phrases(plain, name)
    _check(rules, name)
    return rules


def _read_jsgf(text: str, name: str) -> Rules:
    parser = _Parser(text, name)
    if parser.take("word") != "grammar":
        raise ConfigError(f'{name}: expected "grammar NAME;" behind the #JSGF line')
    parser.expect("word", "the grammar's name")
    parser.expect(";", '";" behind the grammar\'s name')
    expansions: dict[str, Expansion] = {}
    public = []
    while not parser.at_end():
        is_public = parser.take("word", "public") is not None
        rule = parser.rule_head()
        if rule in expansions:
            raise ConfigError(f"{name}: rule <{rule}> is defined twice")
        expansions[rule] = parser.alternatives()
        parser.expect(";", f'";" at the end of rule <{rule}>')
        if is_public:
            public.append(rule)
    if not public:
        raise ConfigError(f"{name}: has no public rule, expected at least one, as public <command>")
    return Rules(expansions, tuple(public))


def _read_phrases(text: str, name: str) -> Rules:
    expansions: dict[str, Expansion] = {}
    phrases: list[Expansion] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        parser = _Parser(line, f"{name}:{number}")
        rule = parser.rule_head() if re.match(r"\s*<[^<>\s]+>\s*=", line) else None
        expansion = parser.alternatives()
        parser.take(";")
        if not parser.at_end():
            raise ConfigError(f"{parser.name}: got {parser.rest()!r} behind the end of a phrase")
        if rule is None:
            phrases.append(expansion)
        elif rule in (*expansions, PHRASES):
            raise ConfigError(f"{parser.name}: rule <{rule}> is defined twice")
        else:
            expansions[rule] = expansion
    if not phrases:
        raise ConfigError(f"{name}: holds no phrase, expected one a line")
    return Rules({**expansions, PHRASES: Alternatives(tuple(phrases))}, (PHRASES,))


@dataclass
class _Parser:
    """Recursive descent over the lexemes of a text."""

    text: str
    name: str
    lexemes: list[tuple[str, str, int]] = field(init=False)
    place: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        self.lexemes = list(self._read())

    def _read(self) -> Iterator[tuple[str, str, int]]:
        position = 0
        while position < len(self.text):
            found = LEXEME.match(self.text, position)
            if not found:
                raise ConfigError(
                    f"{self.name}: got {self.text[position : position + 20].strip()!r}, expected "
                    'a word, <rule>, ( ), [ ], |, *, +, {tag} or "words"'
                )
            kind, lexeme = str(found.lastgroup), found.group()
            if kind == "weight":
                raise ConfigError(f"{self.name}: weights such as {lexeme} are not supported")
            if kind != "space":
                yield (lexeme if kind == "sign" else kind), lexeme, position
            position = found.end()

    def at_end(self) -> bool:
        return self.place == len(self.lexemes)

    def rest(self) -> str:
        return "" if self.at_end() else self.text[self.lexemes[self.place][2] :].strip()[:30]

    def take(self, kind: str, lexeme: str | None = None) -> str | None:
        """The next lexeme, if it is of the kind."""
        if self.at_end() or self.lexemes[self.place][0] != kind:
            return None
        found = self.lexemes[self.place][1]
        if lexeme is not None and found != lexeme:
            return None
        self.place += 1
        return found

    def expect(self, kind: str, what: str) -> str:
        found = self.take(kind)
        if found is None:
            raise ConfigError(f"{self.name}: expected {what}, got {self.rest() or 'the end'!r}")
        return found

    def rule_head(self) -> str:
        """``<name> =``."""
        if self.take("word", "import"):
            raise ConfigError(f"{self.name}: import is not supported; put the rules in one file")
        rule = self.expect("rule", "<rule> =")[1:-1]
        self.expect("=", f'"=" behind <{rule}>')
        return rule

    def alternatives(self) -> Expansion:
        self.depth += 1
        if self.depth > MOST_BRACKETS:
            raise ConfigError(f"{self.name}: more than {MOST_BRACKETS} brackets in one another")
        choices = [self.sequence()]
        while self.take("|"):
            choices.append(self.sequence())
        self.depth -= 1
        return choices[0] if len(choices) == 1 else Alternatives(tuple(choices))

    def sequence(self) -> Expansion:
        parts: list[Expansion] = []
        while (part := self.part()) is not None:
            parts.append(part)
        if not parts:
            raise ConfigError(
                f"{self.name}: expected words, got {self.rest() or 'the end'!r}; "
                "<NULL> says nothing"
            )
        return parts[0] if len(parts) == 1 else Parts(tuple(parts))

    def part(self) -> Expansion | None:
        """A word, a rule, or something in brackets, with what follows it."""
        found: Expansion
        if (word := self.take("word")) is not None:
            found = Words(normalise_text(word))
        elif (quoted := self.take("quoted")) is not None:
            found = Words(normalise_text(quoted[1:-1]))
        elif (rule := self.take("rule")) is not None:
            found = SPECIAL[rule] if rule in SPECIAL else Reference(rule[1:-1])
        elif self.take("("):
            found = self.alternatives()
            self.expect(")", '")"')
        elif self.take("["):
            found = Alternatives((self.alternatives(), NOTHING))
            self.expect("]", '"]"')
        else:
            return None
        while True:
            if self.take("*"):
                found = Repeated(found, 0)
            elif self.take("+"):
                found = Repeated(found, 1)
            elif (tag := self.take("tag")) is not None:
                found = Tagged(found, re.sub(r"\\(.)", r"\1", tag[1:-1]).strip())
            else:
                return found


def _check(rules: Rules, name: str) -> None:
    reached: set[str] = set()

    def follow(rule: str, above: tuple[str, ...]) -> None:
        if rule in above:
            circle = " -> ".join(f"<{r}>" for r in (*above[above.index(rule) :], rule))
            raise ConfigError(f"{name}: the rules go in a circle, {circle}; * and + repeat")
        if len(above) > MOST_RULES:
            raise ConfigError(
                f"{name}: more than {MOST_RULES} rules that each need the next; write some of "
                "them out"
            )
        if rule not in rules.expansions:
            known = ", ".join(f"<{r}>" for r in rules.expansions)
            raise ConfigError(f"{name}: unknown rule <{rule}>; the grammar has {known}")
        if rule not in reached:
            reached.add(rule)
            for inner in _references(rules.expansions[rule]):
                follow(inner, (*above, rule))

    for rule in rules.public:
        follow(rule, ())
    unreached = [rule for rule in rules.expansions if rule not in reached]
    if unreached:
        raise ConfigError(
            f"{name}: no phrase leads to rule <{unreached[0]}>; refer to it, or remove it"
        )


def _references(expansion: Expansion) -> Iterator[str]:
    if isinstance(expansion, Reference):
        yield expansion.rule
    elif isinstance(expansion, Repeated | Tagged):
        yield from _references(expansion.part)
    elif isinstance(expansion, Parts | Alternatives):
        inner = expansion.parts if isinstance(expansion, Parts) else expansion.choices
        for part in inner:
            yield from _references(part)
