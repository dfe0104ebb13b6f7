"""Operations: what is late, what went wrong, and the messages about it.

Lives here: the decision on what is late (`lateness`), reading what it needs from the store (`inventory`), what opens
and heals incidents (`ended_runs`), what runs have left to make (`outcomes`), the sensor that watches (`watch`), the one that does what follows from promotions (`following`), the checks that show it in the web UI (`on_time`), and
what `hfp status` prints (`status`). Does not live here: how a message is delivered (`resources.notifier`), and making
what is late (`automation`).
"""
