"""Modules that hold modules: a list, and a chain. Their children are named 0, 1, 2, ..."""

from __future__ import annotations

import operator

from .module import Module


class ModuleList(Module):
    """A list of modules, each registered under its position: `self.blocks = ModuleList(Block() for ...)`."""

    def __init__(self, modules=()):
        if isinstance(modules, Module) and not isinstance(modules, ModuleList):
            raise TypeError(f"ModuleList: expected modules in a list, got one {type(modules).__name__}: write [module]")
        self.extend(modules)

    def forward(self, *args, **kwargs):
        raise NotImplementedError("ModuleList: it is a list, and not called: call its modules, or use Sequential")

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end."""
        setattr(self, str(len(self)), self._checked(module))
        return self

    def extend(self, modules) -> ModuleList:
        """Add modules at the end, in order."""
        for module in [*modules]:
            self.append(module)
        return self

    def insert(self, i: int, module: Module):
        """Add a module before position i, as list.insert does; those behind it get new names."""
        modules = list(self)
        modules.insert(i, self._checked(module))
        self._renew(modules)

    def pop(self, i: int = -1) -> Module:
        """Take the module at position i out and return it; those behind it get new names."""
        module = self[i]
        del self[i]
        return module

    def __len__(self):
        return len(self._positions())

    def __iter__(self):
        return (self.__dict__[name] for name in self._positions())

    def __getitem__(self, i):
        if isinstance(i, slice):
            return self._like(list(self)[i])
        return self.__dict__[self._name(i)]

    def __setitem__(self, i, module):
        setattr(self, self._name(i), self._checked(module))

    def __delitem__(self, i):
        modules = list(self)
        if not isinstance(i, slice):
            self._name(i)  # raises where there is none
        del modules[i]
        self._renew(modules)

    def __add__(self, other):
        if not isinstance(other, (ModuleList, list, tuple)):
            return NotImplemented
        return self._like([*self, *other])

    def _like(self, modules):
        """A container of the same kind; of a subclass, whose constructor may ask for other things, the plain kind."""
        return Sequential(*modules) if isinstance(self, Sequential) else ModuleList(modules)

    def _renew(self, modules):
        for name in self._positions():
            delattr(self, name)
        self.extend(modules)

    def _positions(self) -> list[str]:
        # A subclass may have parameters, and modules under names of its own.
        return [name for name in self._kinds if name.isdecimal()]

    def _checked(self, module):
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: expected a Module, got {type(module).__name__}")
        return module

    def _name(self, i):
        n, i = len(self), operator.index(i)
        if not -n <= i < n:
            raise IndexError(f"{type(self).__name__}: index {i} is out of range for {n} module(s)")
        return str(i % n)


class Sequential(ModuleList):
    """Modules called one after the other, each on what the one before returned."""

    def __init__(self, *modules):
        self.extend(modules)

    def forward(self, x):
        for module in self:
            x = module(x)
        return x
