"""The lexicon of toy English, read from the TOML files beside this module."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from sas_lib.toy_english.lexicon import Lexicon, Noun, Verb
from sas_lib.toy_english.morphology import add_ed, add_ing, add_s
from sas_lib.toy_english.tables import (
    FREQUENCY_EXPONENT,
    TASTE_EXPONENT,
    Form,
    Table,
    own_order,
    taste,
    zipf,
)

LEAK = {"person": 0.12, "animal": 0.09}
LEAK_ELSEWHERE = 0.04
VERB_EXPONENT = 0.9
LOCATIVE = frozenset("in on at under near behind above over".split())
_ROLES = "friend stranger hero/heroes fool relative genius"


@cache
def load() -> Lexicon:
    """The lexicon, read once from the TOML files of the package."""
    lexicon = Lexicon()
    nouns, verbs, modifiers = (
        _read(f"{name}.toml") for name in ("nouns", "verbs", "modifiers")
    )
    _add_nouns(lexicon, nouns)
    _add_modifiers(lexicon, modifiers)
    _relate_nouns(lexicon, nouns, modifiers["adjectives"])
    _add_verbs(lexicon, verbs)
    _invert_verbs(lexicon)
    return lexicon


def _read(name: str) -> dict[str, Any]:
    with resources.files(__package__).joinpath(name).open("rb") as file:
        return tomllib.load(file)


def _add_nouns(lexicon: Lexicon, entries: dict[str, Any]) -> None:
    lexicon.fields = list(entries)
    for field_name, clusters in entries.items():
        for cluster, entry in clusters.items():
            nouns = [make_noun(n, cluster, entry["kind"]) for n in entry["nouns"].split()]
            names = [
                make_noun(n, cluster, "person", proper=True)
                for n in entry.get("names", "").split()
            ]
            # Names come early: each is as frequent as a common noun of its cluster.
            members = nouns[:2] + names[:1] + nouns[2:3] + names[1:] + nouns[3:]
            lexicon.nouns += members
            lexicon.clusters[cluster] = members
            if names:
                lexicon.names[cluster] = Table(zipf(names, FREQUENCY_EXPONENT))
            lexicon.common[cluster] = Table(zipf(nouns, FREQUENCY_EXPONENT))
            for group in (cluster, field_name, entry["kind"]):
                lexicon.groups.setdefault(group, []).extend(members)


def make_noun(entry: str, cluster: str = "", kind: str = "thing", proper: bool = False) -> Noun:
    """A noun from its notation in nouns.toml, like "waitress:f" or "knife/knives"."""
    spelling, _, gender = entry.partition(":")
    singular, _, plural = spelling.partition("/")
    upos = "PROPN" if proper else "NOUN"
    countable = plural != "-" and not proper
    return Noun(
        lemma=singular,
        cluster=cluster,
        kind=kind,
        singular=Form(singular, singular, upos, "Number=Sing"),
        plural=Form(plural or add_s(singular), singular, upos, "Number=Plur")
        if countable
        else None,
        gender=gender,
        proper=proper,
        irregular=countable and bool(plural),
    )


def _add_modifiers(lexicon: Lexicon, entries: dict[str, Any]) -> None:
    for name, words in entries["adverbs"].items():
        lexicon.adverbs[name] = [Form(w, w, "ADV") for w in words.split()]
    openers = entries["closed"].pop("openers").split()
    lexicon.openers = {form.text for group in openers for form in lexicon.adverbs[group]}
    for name, words in entries["closed"].items():
        lexicon.adverbs[name] = [Form(w, w.lower(), "ADV") for w in words.split()]
        lexicon.closed[name] = Table(zipf(lexicon.adverbs[name], 0.7))
    for name, entry in entries["adjectives"].items():
        for word in entry["words"].split():
            lexicon.group_of.setdefault(word, set()).add(name)
    moods = entries["adjectives"]["mood"]["words"].split()
    lexicon.moods = Table(zipf([Form(w, w, "ADJ", "Degree=Pos") for w in moods], 0.7))
    lexicon.adjectives = [Form(w, w, "ADJ", "Degree=Pos") for w in lexicon.group_of]


def _choose(
    lexicon: Lexicon, groups: str, key: str, leak: bool = True, proper: bool = True
) -> Table[Noun]:
    """The taste of ``key`` for the nouns of ``groups``, earlier groups preferred."""
    weighted: list[tuple[Noun, float]] = []
    for rank, group in enumerate(groups.split()):
        members = [n for n in lexicon.groups[group] if proper or not n.proper]
        weighted += [(n, w / (rank + 1)) for n, w in taste(members, f"{key} {group}")]
    kind = lexicon.groups[groups.split()[0]][0].kind
    share = LEAK.get(kind, LEAK_ELSEWHERE) if leak else 0.0
    return Table(weighted, lexicon.kinds[kind] if leak else None, share)


def _phrases(
    lexicon: Lexicon, entries: list[str], key: str
) -> Table[tuple[Form, Table[Noun]]] | None:
    """Prepositional phrases from their notation, like "in:kitchens"."""
    options = []
    for phrase in entries:
        preposition, _, cluster = phrase.partition(":")
        nouns = _choose(lexicon, cluster, f"{key} {phrase}")
        options.append((Form(preposition, preposition, "ADP"), nouns))
    return Table(zipf(options, 1.0)) if options else None


def _relate_nouns(
    lexicon: Lexicon, entries: dict[str, Any], adjectives: dict[str, Any]
) -> None:
    """Fill in what each noun likes beside it: adjectives, owners, phrases, classes."""
    for kind in {noun.kind for noun in lexicon.nouns}:
        members = own_order(lexicon.groups[kind], kind)
        lexicon.kinds[kind] = Table(zipf(members, FREQUENCY_EXPONENT))
    owners: dict[str, list[str]] = {}
    for clusters in entries.values():
        for cluster, entry in clusters.items():
            for owned in entry.get("owns", "").split():
                owners.setdefault(owned, []).append(cluster)
        people = [name for name, entry in clusters.items() if entry["kind"] == "person"]
        for cluster, entry in clusters.items():
            if people and entry["kind"] in ("thing", "place", "food", "plant", "text"):
                owners.setdefault(cluster, list(people))
    for field_name, clusters in entries.items():
        for cluster, entry in clusters.items():
            groups = {cluster, field_name, entry["kind"]}
            classes = entry.get("isa", _ROLES)
            kinds = (
                [make_noun(word) for word in classes.split()]
                if "isa" in entry or entry["kind"] == "person"
                else []
            )
            for noun in lexicon.clusters[cluster]:
                noun.mates = Table(taste(lexicon.clusters[cluster], noun.lemma))
                noun.adjectives = _adjectives(lexicon, adjectives, groups, noun)
                phrases = entry.get("pp", "").split()
                noun.phrases = _phrases(lexicon, phrases, noun.lemma)
                places = [p for p in phrases if is_place(p)]
                noun.places = _phrases(lexicon, places, noun.lemma)
                if cluster in owners:
                    key = f"{noun.lemma} owner"
                    noun.owners = _choose(lexicon, " ".join(owners[cluster]), key, leak=False)
                if noun.kind == "person" and "owns" in entry:
                    noun.owned = _choose(
                        lexicon, entry["owns"], f"{noun.lemma} owns", leak=False, proper=False
                    )
                if "compound" in entry and not noun.proper:
                    words = [
                        Form(w, w, "NOUN", "Number=Sing") for w in entry["compound"].split()
                    ]
                    noun.compounds = Table(taste(words, noun.lemma))
                if kinds:
                    noun.classes = Table(taste(kinds, noun.lemma))


def _adjectives(
    lexicon: Lexicon, entries: dict[str, Any], groups: set[str], noun: Noun
) -> Table[Form]:
    by_text = {form.text: form for form in lexicon.adjectives}
    weighted: list[tuple[Form, float]] = []
    for name, entry in entries.items():
        targets = groups & set(entry["of"].split())
        if targets:
            # What is said of a whole kind says less than what is said of a cluster.
            share = 1.0 if noun.cluster in targets else 0.4
            forms = [by_text[word] for word in entry["words"].split()]
            weighted += [(f, w * share) for f, w in taste(forms, f"{noun.lemma} {name}")]
    return Table(weighted)


def _verb_forms(lemma: str, irregular: str, double: bool) -> dict[str, Form]:
    """Forms by name: base, past participle (en), -ing, and present and past by agreement.

    Agreement is 0 for the third person singular, 1 for plurals and "you", 2 for "I".
    """
    past, _, participle = (irregular or add_ed(lemma, double)).partition(" ")
    finite = "Mood=Ind|Number={}|Person={}|Tense={}|VerbForm=Fin"
    number = ("Sing", "3"), ("Plur", "3"), ("Sing", "1")
    forms = {
        "base": Form(lemma, lemma, "VERB", "VerbForm=Inf"),
        "en": Form(participle or past, lemma, "VERB", "Tense=Past|VerbForm=Part"),
        "ing": Form(add_ing(lemma, double), lemma, "VERB", "Tense=Pres|VerbForm=Part"),
    }
    for agreement, marks in enumerate(number):
        present = add_s(lemma) if agreement == 0 else lemma
        forms[f"present{agreement}"] = Form(
            present, lemma, "VERB", finite.format(*marks, "Pres")
        )
        forms[f"past{agreement}"] = Form(past, lemma, "VERB", finite.format(*marks, "Past"))
    return forms


PLAIN_FRAMES = frozenset(["transitive", "intransitive", "ditransitive"])
# How often a verb that can is used in each frame, beside 1.0 for its plain use.
FRAMES = {
    "drop": ("intransitive", 0.3), "alt": ("inchoative", 0.5), "self": ("reflexive", 0.5),
    "that": ("clause", 1.2), "wh": ("question", 2.0), "to": ("infinitive", 1.0),
    "objto": ("object_infinitive", 1.0), "raise": ("raising", 1.0),
}  # fmt: skip


def _add_verbs(lexicon: Lexicon, entries: dict[str, Any]) -> None:
    frequent = entries.pop("frequent").split()
    for field_name, verbs in entries.items():
        for name, entry in verbs.items():
            lexicon.verbs.append(_make_verb(lexicon, field_name, name, entry))
    first = {name: rank for rank, name in enumerate(frequent)}
    order = sorted(
        own_order(lexicon.verbs, "verbs"), key=lambda v: first.get(v.lemma, len(first))
    )
    ranked = [(v, (rank + 4) ** -VERB_EXPONENT) for rank, v in enumerate(order)]
    lexicon.verb_table = Table(ranked)
    for field_name in entries:
        lexicon.verbs_of[field_name] = Table((v, w) for v, w in ranked if v.field == field_name)
    lexicon.verb = {verb.lemma: verb for verb in lexicon.verbs if verb.particle is None}


def _make_verb(lexicon: Lexicon, field_name: str, name: str, entry: dict[str, Any]) -> Verb:
    particle = entry.get("prt")
    lemma = name.partition("_")[0] if particle else name
    flags = frozenset(entry.get("is", "").split())
    what, whom, how = (entry.get(key, "") for key in ("what", "whom", "how"))
    frames = [FRAMES[flag] for flag in FRAMES if flag in flags]
    if whom:
        frames.append(("ditransitive", 1.0))
    if what:
        frames.append(("transitive", 1.0 if not whom else 0.5))
    if not what and not (flags & {"that", "to", "wh", "raise"}):
        frames.append(("intransitive", 1.0))
    groups = own_order(how.split(), name) if how else []
    manners = [form for group in groups for form in lexicon.adverbs[group]]
    return Verb(
        lemma=lemma,
        field=field_name,
        forms=_verb_forms(lemma, entry.get("past", ""), entry.get("double", False)),
        flags=flags,
        irregular=bool(entry.get("past")),
        subjects=_choose(lexicon, entry["who"], f"{name} who"),
        objects=_choose(lexicon, what, f"{name} what") if what else None,
        recipients=_choose(lexicon, whom, f"{name} whom") if whom else None,
        manners=Table(zipf(manners, TASTE_EXPONENT)) if manners else None,
        phrases=_phrases(lexicon, entry.get("pp", "").split(), name),
        particle=Form(particle, particle, "ADP") if particle else None,
        frames=Table(frames),
    )


def _invert_verbs(lexicon: Lexicon) -> None:
    """From each noun to the verbs that like it: what a relative clause on it may say."""
    subjects: dict[int, list[tuple[Verb, float]]] = {}
    objects: dict[int, list[tuple[Verb, float]]] = {}
    for verb, frequency in lexicon.verb_table.weighted():
        if "raise" not in verb.flags and verb.frames_of & PLAIN_FRAMES:
            for noun, weight in verb.subjects.weighted():
                subjects.setdefault(id(noun), []).append((verb, weight * frequency))
        if verb.objects:
            for noun, weight in verb.objects.weighted():
                objects.setdefault(id(noun), []).append((verb, weight * frequency))
    for noun in lexicon.nouns:
        if id(noun) in subjects:
            noun.as_subject = Table(subjects[id(noun)])
        if id(noun) in objects:
            noun.as_object = Table(objects[id(noun)])


def is_place(phrase: str) -> bool:
    """Whether "in:gardens" and the like say where something is, not what someone wears."""
    preposition, _, cluster = phrase.partition(":")
    return preposition in LOCATIVE and cluster != "garments"
