"""Texts that an operator has read, with ``{}`` where something varies."""

_PLACE = "{}"


def matches(template: str, text: str) -> bool:
    """Tell whether a whole text is a template with something, or nothing, in each place.

    Each piece is looked for behind the one before it, at the first place it is found: a later one
    could only leave less for the others. So nothing is tried twice, and the time is linear.
    """
    first, *others = template.split(_PLACE)
    if not others:
        return text == template
    *middle, last = others
    position, end = len(first), len(text) - len(last)
    if position > end or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in middle:
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True
