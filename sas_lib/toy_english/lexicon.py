"""What the lexicon of toy English holds: nouns, verbs, and what they like to go with."""

from __future__ import annotations

from dataclasses import dataclass, field

from sas_lib.toy_english.tables import Form, Table


@dataclass(eq=False, slots=True)
class Noun:
    """A noun or a name. ``plural`` is None for mass nouns and names."""

    lemma: str
    cluster: str
    kind: str
    singular: Form
    plural: Form | None = None
    gender: str = ""
    proper: bool = False
    irregular: bool = False
    mates: Table[Noun] | None = None
    adjectives: Table[Form] | None = None
    phrases: Table[tuple[Form, Table[Noun]]] | None = None
    places: Table[tuple[Form, Table[Noun]]] | None = None
    owners: Table[Noun] | None = None
    owned: Table[Noun] | None = None
    compounds: Table[Form] | None = None
    classes: Table[Noun] | None = None
    as_subject: Table[Verb] | None = None
    as_object: Table[Verb] | None = None


@dataclass(eq=False, slots=True)
class Verb:
    """A verb with its forms and preferences. Form names: see :func:`_verb_forms`."""

    lemma: str
    field: str
    forms: dict[str, Form]
    flags: frozenset[str]
    irregular: bool
    subjects: Table[Noun]
    objects: Table[Noun] | None
    recipients: Table[Noun] | None
    manners: Table[Form] | None
    phrases: Table[tuple[Form, Table[Noun]]] | None
    particle: Form | None
    frames: Table[str]

    @property
    def frames_of(self) -> set[str]:
        """The names of the frames the verb is used in."""
        return set(self.frames.items)


@dataclass(slots=True)
class Lexicon:
    """All words of toy English. Fetch it with :func:`.loading.load`."""

    nouns: list[Noun] = field(default_factory=list)
    verbs: list[Verb] = field(default_factory=list)
    adjectives: list[Form] = field(default_factory=list)
    clusters: dict[str, list[Noun]] = field(default_factory=dict)
    groups: dict[str, list[Noun]] = field(default_factory=dict)
    kinds: dict[str, Table[Noun]] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    adverbs: dict[str, list[Form]] = field(default_factory=dict)
    closed: dict[str, Table[Form]] = field(default_factory=dict)
    verb_table: Table[Verb] = field(default=None)  # type: ignore[arg-type]
    verbs_of: dict[str, Table[Verb]] = field(default_factory=dict)
    verb: dict[str, Verb] = field(default_factory=dict)
    moods: Table[Form] = field(default=None)  # type: ignore[arg-type]
    openers: set[str] = field(default_factory=set)
    group_of: dict[str, set[str]] = field(default_factory=dict)
    names: dict[str, Table[Noun]] = field(default_factory=dict)
    common: dict[str, Table[Noun]] = field(default_factory=dict)

    def forms(self) -> set[Form]:
        """Every form of every word."""
        found = set(self.adjectives).union(*self.adverbs.values())
        for noun in self.nouns:
            found |= {form for form in (noun.singular, noun.plural) if form}
            found |= set(noun.compounds.items if noun.compounds else [])
            found |= prepositions(noun.phrases)
            for other in noun.classes.items if noun.classes else []:
                found |= {form for form in (other.singular, other.plural) if form}
        for verb in self.verbs:
            found |= set(verb.forms.values())
            found |= prepositions(verb.phrases)
            found |= {verb.particle} if verb.particle else set()
        return found


def prepositions(phrases: Table[tuple[Form, Table[Noun]]] | None) -> set[Form]:
    """The prepositions of a table of phrases."""
    return {preposition for preposition, _ in phrases.items} if phrases else set()
