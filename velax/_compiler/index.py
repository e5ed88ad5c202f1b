"""Affine index arithmetic over loop variables with known ranges.

An `Affine` is ``const + sum(coefficient * atom)``. An atom is a loop variable, an opaque run-time integer (a
gathered index), or what could not be simplified: ``floor(a / c)``, ``a mod c``, ``min(max(a, low), high)`` of
another affine form. Forms are canonical and shared inside one `Space`: equal indexes are one object, so they
serve as dictionary keys, and "is this access the same as that one" is ``is``.

Every array access of a nest is one affine form, the row-major linear index; `Space.axes` takes it apart along
a shape. With exact ranges a reshape that merges or splits axes cleanly leaves no division behind: ``axes(i*12
+ j*4 + k, (6, 4)) == (i*3 + j, k)`` for ``j < 3, k < 4``.

Where a division of a plain loop variable remains, the form that would avoid it is known: the loop should be
two loops. `Space.cuts` collects those wishes (variable -> divisors) as expressions with divisions are made;
the nest builder refines its domain and starts again. `Space.possible_cuts` also has those of divisions that
later cancelled. `Space.breaks` collects thresholds at which undecided conditions on a single variable change,
for splitting a loop into ranges (pads, concatenations).
"""

from __future__ import annotations

from math import gcd

from velax._ir import loops, loops_build as lb

__all__ = ["Affine", "Space"]


class Atom:
    """An indivisible integer quantity in ``[lo, hi]``; ``kind``: var | opaque | div | mod | clamp."""

    __slots__ = ("arg", "arg2", "hi", "id", "kind", "lo")

    def __init__(self, id, kind, arg, arg2, lo, hi):
        self.id, self.kind, self.arg, self.arg2, self.lo, self.hi = id, kind, arg, arg2, lo, hi

    def __repr__(self):
        if self.kind == "var":
            return self.arg.name
        if self.kind == "opaque":
            return f"@{self.id}"
        sign = {"div": "//", "mod": "%", "clamp": " clamp "}[self.kind]
        return f"({self.arg!r}{sign}{self.arg2})"


class Affine:
    """``const + sum(coefficient * atom for atom, coefficient in terms)`` with its range; shared, made by a `Space`."""

    __slots__ = ("const", "expr", "hi", "lo", "terms")

    def __init__(self, const, terms):
        lo = hi = const
        for atom, k in terms:
            if k > 0:
                lo += k * atom.lo
                hi += k * atom.hi
            else:
                lo += k * atom.hi
                hi += k * atom.lo
        self.const, self.terms, self.lo, self.hi, self.expr = const, terms, lo, hi, None

    def __repr__(self):
        parts = [f"{atom!r}*{k}" if k != 1 else repr(atom) for atom, k in self.terms]
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts)

    @property
    def is_const(self) -> bool:
        return not self.terms

    def coefficient(self, atom: Atom) -> int:
        for other, k in self.terms:
            if other is atom:
                return k
        return 0


class Space:
    """The affine forms of one nest."""

    def __init__(self):
        self._forms: dict = {}
        self._atoms: dict = {}
        self._n_atoms = 0
        self._axes: dict = {}
        self.cuts: dict[Atom, set[int]] = {}
        self.possible_cuts: dict[Atom, set[int]] = {}
        self.breaks: dict[Atom, set[int]] = {}
        self.zero = self.const(0)

    # -- leaves -----------------------------------------------------------------------------------

    def const(self, value: int) -> Affine:
        return self._form(value, ())

    def var(self, name: str, extent: int, start: int = 0, expr: loops.Expr | None = None) -> Affine:
        """A new loop variable in ``[start, start + extent)``; ``expr`` (an i64) stands for it instead of a
        new `loops.Var`.
        """
        atom = self._atom("var", expr if expr is not None else loops.Var(name), None, start, start + max(extent, 1) - 1)
        return self._form(0, ((atom, 1),))

    def opaque(self, expr: loops.Expr, lo: int, hi: int) -> Affine:
        """A run-time ``i64`` value known to lie in ``[lo, hi]``."""
        if type(expr) is loops.Const:
            return self.const(expr.value)
        if lo == hi:
            return self.const(lo)
        key = ("opaque", expr, lo, hi)
        atom = self._atoms.get(key)
        if atom is None:
            atom = self._atoms[key] = self._atom("opaque", expr, None, lo, hi)
        return self._form(0, ((atom, 1),))

    # -- arithmetic -------------------------------------------------------------------------------

    def add(self, a: Affine, b: Affine) -> Affine:
        if not b.terms:
            return a if not b.const else self._form(a.const + b.const, a.terms)
        if not a.terms:
            return b if not a.const else self._form(a.const + b.const, b.terms)
        return self._sum(a.const + b.const, (*a.terms, *b.terms))

    def shift(self, a: Affine, c: int) -> Affine:
        return a if not c else self._form(a.const + c, a.terms)

    def scale(self, a: Affine, k: int) -> Affine:
        if k == 1:
            return a
        if k == 0:
            return self.zero
        return self._form(a.const * k, tuple((atom, c * k) for atom, c in a.terms))

    def floordiv(self, a: Affine, c: int) -> Affine:
        """``floor(a / c)`` for ``c >= 1``."""
        if c == 1:
            return a
        if a.lo >= 0 and a.hi < c:
            return self.zero
        quotient, rest = self._split(a, c)
        if rest.lo // c == rest.hi // c:
            return self.shift(quotient, rest.lo // c)
        return self.add(quotient, self._div_atom(rest, c))

    def mod(self, a: Affine, c: int) -> Affine:
        """``a mod c`` in ``[0, c)`` for ``c >= 1``."""
        if c == 1:
            return self.zero
        if a.lo >= 0 and a.hi < c:
            return a
        _, rest = self._split(a, c)
        if rest.lo // c == rest.hi // c:
            return self.shift(rest, -(rest.lo // c) * c)
        return self._mod_atom(rest, c)

    def clamp(self, a: Affine, lo: int, hi: int) -> Affine:
        """``min(max(a, lo), hi)``."""
        if lo <= a.lo and a.hi <= hi:
            return a
        if a.hi <= lo:
            return self.const(lo)
        if a.lo >= hi:
            return self.const(hi)
        key = ("clamp", a, lo, hi)
        atom = self._atoms.get(key)
        if atom is None:
            atom = self._atoms[key] = self._atom("clamp", a, (lo, hi), max(lo, a.lo), min(hi, a.hi))
        return self._form(0, ((atom, 1),))

    def confine(self, a: Affine, n: int) -> Affine:
        """``a`` where it lies in ``[0, n)``, some index in that range elsewhere; cheaper than `clamp`, for
        guarded reads.
        """
        if a.lo >= 0 and a.hi < n:
            return a
        split = self._multiple(a, n)
        if split is None:
            return self.clamp(a, 0, n - 1)
        quotient, rest, g = split
        return self.add(self.scale(self.confine(quotient, n // g), g), rest)

    def _multiple(self, a: Affine, c: int) -> tuple[Affine, Affine, int] | None:
        """``a == quotient * g + rest`` with ``0 <= rest < g`` and ``c`` a multiple of ``g > 1``: the rest
        cannot decide a comparison with c.
        """
        for _, k in a.terms:
            g = gcd(k, c)
            if g > 1:
                quotient, rest = self._split(a, g)
                if quotient.terms and rest.terms and rest.lo >= 0 and rest.hi < g:
                    return quotient, rest, g
        return None

    def less(self, a: Affine, c: int) -> loops.Expr | bool:
        """``a < c`` as a bool if the ranges decide it, else an expression (and the threshold is noted in `breaks`)."""
        if a.hi < c:
            return True
        if a.lo >= c:
            return False
        split = self._multiple(a, c)
        if split is not None:
            return self.less(split[0], c // split[2])
        if len(a.terms) == 1 and a.terms[0][0].kind == "var":
            atom, k = a.terms[0]
            # k*v + const < c  <=>  v < t (k > 0)  or  v >= t (k < 0)
            t = -((a.const - c) // k) if k > 0 else (c - a.const) // k + 1
            if atom.lo < t <= atom.hi:
                self.breaks.setdefault(atom, set()).add(t)
        return lb.lt(self.expr(a), lb.c(c))

    def axes(self, a: Affine, shape: tuple[int, ...]) -> tuple[Affine, ...]:
        """The index along each axis of ``shape`` of the element at row-major position ``a``."""
        key = (a, shape)
        found = self._axes.get(key)
        if found is None:
            result = []
            rest = a
            for n in reversed(shape[1:]):
                if n == 1:
                    result.append(self.zero)
                else:
                    result.append(self.mod(rest, n))
                    rest = self.floordiv(rest, n)
            if shape:
                result.append(rest if shape[0] != 1 else self.zero)
            found = self._axes[key] = tuple(reversed(result))
        return found

    def linear(self, index: tuple[Affine, ...], shape: tuple[int, ...]) -> Affine:
        """The row-major position of ``index``: inverse of `axes`."""
        const, terms, stride = 0, [], 1
        for a, n in zip(reversed(index), reversed(shape), strict=True):
            const += a.const * stride
            for atom, k in a.terms:
                terms.append((atom, k * stride))
            stride *= n
        return self._sum(const, terms)

    # -- expressions ------------------------------------------------------------------------------

    def expr(self, a: Affine) -> loops.Expr:
        """The ``i64`` expression of ``a``: shared, outer variables first, so that inner loops add to an
        invariant base.
        """
        if a.expr is None:
            total = None
            for atom, k in a.terms:
                term = lb.mul(self._atom_expr(atom), k)
                total = term if total is None else lb.add(total, term)
            a.expr = lb.c(a.const) if total is None else lb.add(total, a.const) if a.const else total
        return a.expr

    def _atom_expr(self, atom: Atom) -> loops.Expr:
        if atom.kind in ("var", "opaque"):
            return atom.arg
        x = self.expr(atom.arg)
        if atom.kind != "clamp":
            self._wish(atom, self.cuts)
        if atom.kind == "clamp":
            lo, hi = atom.arg2
            if atom.arg.lo < lo:
                x = lb.max_(x, lo)
            return lb.min_(x, hi) if atom.arg.hi > hi else x
        c = atom.arg2
        # the loop IR divides toward zero: move negative dividends up by a multiple of c first
        up = -(atom.arg.lo // c) if atom.arg.lo < 0 else 0
        if up:
            x = lb.add(x, up * c)
        if c & (c - 1) == 0:
            x = lb.shrl(x, c.bit_length() - 1) if atom.kind == "div" else lb.and_(x, c - 1)
        else:
            x = lb.div(x, c) if atom.kind == "div" else lb.rem(x, c)
        return lb.add(x, -up) if up and atom.kind == "div" else x

    # -- internals --------------------------------------------------------------------------------

    def _form(self, const, terms) -> Affine:
        key = (const, terms)
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = Affine(const, terms)
        return form

    def _atom(self, kind, arg, arg2, lo, hi) -> Atom:
        self._n_atoms += 1
        return Atom(self._n_atoms, kind, arg, arg2, lo, hi)

    def _sum(self, const, terms) -> Affine:
        total: dict[Atom, int] = {}
        mods = False
        for atom, k in terms:
            total[atom] = total.get(atom, 0) + k
            mods = mods or atom.kind == "mod"
        if mods:
            for atom in [atom for atom in total if atom.kind == "mod"]:
                # (x mod c) * k + floor(x / c) * (c * k) == x * k
                quotient = self._quotient(atom)
                div = (
                    quotient.terms[0][0]
                    if len(quotient.terms) == 1 and quotient.terms[0][1] == 1 and not quotient.const
                    else None
                )
                k = total[atom]
                if k and div is not None and total.get(div) == k * atom.arg2:
                    total[atom] = total[div] = 0
                    whole = self.scale(atom.arg, k)
                    rest = tuple((a, c) for a, c in total.items() if c)
                    return self._sum(const + whole.const, (*rest, *whole.terms))
        kept = [(atom, k) for atom, k in total.items() if k]
        kept.sort(key=lambda term: term[0].id)
        return self._form(const, tuple(kept))

    def _quotient(self, mod: Atom) -> Affine:
        """``floor(x / c)`` for an atom ``x mod c``."""
        key = ("quotient", mod)
        found = self._atoms.get(key)
        if found is None:
            found = self._atoms[key] = self.floordiv(mod.arg, mod.arg2)
        return found

    def _split(self, a: Affine, c: int) -> tuple[Affine, Affine]:
        """``a == quotient * c + rest`` where rest keeps what ``c`` does not divide."""
        quotient = tuple((atom, k // c) for atom, k in a.terms if k // c)
        rest = tuple((atom, k % c) for atom, k in a.terms if k % c)
        high, low = divmod(a.const, c)
        return self._form(high, quotient), self._form(low, rest)

    def _div_atom(self, a: Affine, c: int) -> Affine:
        """``floor(a / c)`` where no term of ``a`` is divisible by ``c``."""
        g = c
        for _, k in a.terms:
            g = gcd(g, k)
        if g > 1:
            a = self._form(a.const // g, tuple((atom, k // g) for atom, k in a.terms))
            return self.floordiv(a, c // g)
        if len(a.terms) == 1 and a.terms[0][1] == 1 and a.const == 0:
            atom = a.terms[0][0]
            if atom.kind == "div":
                return self.floordiv(atom.arg, atom.arg2 * c)
            if atom.kind == "mod" and atom.arg2 % c == 0:
                return self.mod(self.floordiv(atom.arg, c), atom.arg2 // c)
        return self._interned("div", a, c, a.lo // c, a.hi // c)

    def _mod_atom(self, a: Affine, c: int) -> Affine:
        g = c
        for _, k in a.terms:
            g = gcd(g, k)
        if g > 1:
            low = a.const % g
            a = self._form(a.const // g, tuple((atom, k // g) for atom, k in a.terms))
            return self.shift(self.scale(self.mod(a, c // g), g), low)
        if len(a.terms) == 1 and a.terms[0][1] == 1 and a.const == 0:
            atom = a.terms[0][0]
            if atom.kind == "mod" and atom.arg2 % c == 0:
                return self.mod(atom.arg, c)
        return self._interned("mod", a, c, 0, c - 1)

    def _interned(self, kind, a: Affine, c: int, lo: int, hi: int) -> Affine:
        key = (kind, a, c)
        atom = self._atoms.get(key)
        if atom is None:
            atom = self._atoms[key] = self._atom(kind, a, c, lo, hi)
            self._wish(atom, self.possible_cuts)
        return self._form(0, ((atom, 1),))

    def _wish(self, atom: Atom, table: dict) -> None:
        """Note in ``table`` that a loop variable is divided in ``atom``: the loop would better be two."""
        c = 1
        while atom.kind in ("div", "mod"):
            if atom.kind == "div" or c == 1:
                c *= atom.arg2
            if len(atom.arg.terms) != 1 or atom.arg.const or atom.arg.terms[0][1] != 1:
                return
            atom = atom.arg.terms[0][0]
        if atom.kind == "var":
            table.setdefault(atom, set()).add(c)
