"""What this project promises about its speed, measured against named peers.

``make bench`` runs everything; ``make bench ARGS=--help`` lists the options. A *workload* is
a piece of work that several *contestants* do in turn; a *comparison* is the ratio of two of
them with the bar that it is held to.
"""
