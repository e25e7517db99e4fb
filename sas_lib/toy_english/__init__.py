"""Toy English: plain sentences with gold trees, from a grammar with tastes."""

from sas_lib.toy_english.grammar import sentences

__all__ = ["sentences"]
