"""Points of edwards25519 (RFC 8032): which bytes are a public key that somebody can hold."""

_P = 2**255 - 19


def is_sound(public: bytes) -> bool:
    """Tell whether 32 bytes are a point on the curve, in its one form, and not of small order.

    Anybody can make signatures that a key of small order accepts. Such keys, and second forms of a
    point (y of p or more), pass what libraries check when they load a key.
    """
    y = int.from_bytes(public, "little") & (2**255 - 1)
    return y < _P and y not in _SMALL_ORDER_Y and _is_on_curve(y)


def _small_order_y() -> frozenset[int]:
    """Return the y coordinates below 2**255 that encode points of order 1, 2, 4 and 8.

    Orders 1, 2 and 4 are y = 1, -1 and 0; order 8 follows from doubling to y = 0, which on
    -x² + y² = 1 + d x² y² means y² = -x², so d y⁴ + 2 y² - 1 = 0. Each also has the
    non-canonical form y + p where that is below 2**255.
    """
    d = -121665 * pow(121666, -1, _P) % _P

    def roots(a: int) -> list[int]:
        root = pow(a, (_P + 3) // 8, _P)
        if root * root % _P != a % _P:
            root = root * pow(2, (_P - 1) // 4, _P) % _P
        return [root, _P - root] if root * root % _P == a % _P else []

    order_8 = [y for r in roots(1 + d) for y in roots((r - 1) * pow(d, -1, _P) % _P)]
    points = [0, 1, _P - 1, *order_8]
    return frozenset(v for y in points for v in (y, y + _P) if v < 2**255)


_SMALL_ORDER_Y = _small_order_y()


def _is_on_curve(y: int) -> bool:
    """Tell whether a point has this y: whether (y² - 1) / (d y² + 1) is a square (RFC 8032, 5.1.3)."""
    d = -121665 * pow(121666, -1, _P) % _P
    x_squared = (y * y - 1) * pow(d * y * y + 1, -1, _P) % _P
    return pow(x_squared, (_P - 1) // 2, _P) in (0, 1)
