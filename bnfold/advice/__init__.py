"""Advice on the use of BatchNorm in a prototxt: findings with a rule, a reason and what to write instead.

`advise` reads a prototxt of all phases and asks every rule of the table `RULES`.
"""

from bnfold.advice.records import Finding, Severity
from bnfold.advice.rules import RULES, advise

__all__ = ["RULES", "Finding", "Severity", "advise"]
