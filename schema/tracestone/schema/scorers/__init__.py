"""What a scorer is: its kinds, their parameters, its versions, and the online configurations that apply it.

A definition is a name, a kind and parameters. It is stored with a version that never changes; another
definition under the same name is the next version. `parameters` are checked here, by one model per kind,
wherever they come from (YAML, API, a stored row), so an invalid definition is refused before it is stored.
"""
