"""What an error of ClickHouse says about an insert: is its content at fault, or the server and its load? Pure.

No list of codes can be complete: readers of a format fail in many ways. So a code in neither list below is judged by
experience: when the same insert fails some times in a row while the store takes a harmless one, its content is blamed.
Blaming costs nothing that is lost: the insert is taken apart, and only the spans that are refused alone are set aside.
"""

_MEMORY = 241

# The content cannot be parsed or converted. Trying again cannot help.
_CONTENT = frozenset(
    {6, 27, 36, 38, 41, 53, 69, 70, 72, 117, 131, 190, 321, 349, 407, 432, 434, 436, 440, 444, 589, 636}
)

# Disks, limits, other servers, schema and rights: an operator or time mends them, and then the same insert succeeds.
_PASSING = frozenset(
    {
        *(60, 81, 16, 115, 164, 192, 193, 194, 497, 516),  # a table, a column or a right is missing
        *(74, 75, 76, 77, 87, 88, 173, 210, 209, 243, 246, 271, 425),  # disk, memory of the machine, sockets
        *(159, 160, 198, 202, 203, 225, 236, 242, 252, 279, 285, 286, 319, 394, 473, 999),  # load, replicas
        *(1000, 1001, 1002),  # errors of libraries and of the system below
    }
)

_DOUBTFUL_TRIES = 4
_DIVISIBLE_MEMORY_TRIES = 2
_MEMORY_TRIES = 20


def needs_probe(code: int) -> bool:
    """Whether the store should be seen to take a harmless insert before content is blamed for this error."""
    return code not in _CONTENT


def blamed(code: int, tries: int, *, divisible: bool) -> bool:
    """Whether the content is to blame after `tries` failures in a row; `divisible` says that it can be taken apart."""
    if code in _CONTENT:
        return True
    if code in _PASSING:
        return False
    if code == _MEMORY:
        return tries >= (_DIVISIBLE_MEMORY_TRIES if divisible else _MEMORY_TRIES)
    return tries >= _DOUBTFUL_TRIES
