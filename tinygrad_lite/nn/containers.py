"""Modules that hold modules: a list, and a chain. Their children are named 0, 1, 2, ..."""

from __future__ import annotations

from .module import Module


class ModuleList(Module):
    """A list of modules, each registered under its position: `self.blocks = ModuleList(Block() for ...)`."""

    def __init__(self, modules=()):
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: expected a Module, got {type(module).__name__}")
        setattr(self, str(len(self)), module)
        return self

    def extend(self, modules) -> ModuleList:
        """Add modules at the end, in order."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self):
        return len(self._kinds)

    def __iter__(self):
        return (self.__dict__[name] for name in self._kinds)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return type(self)(*list(self)[i]) if isinstance(self, Sequential) else type(self)(list(self)[i])
        return self.__dict__[self._name(i)]

    def __setitem__(self, i, module):
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: expected a Module, got {type(module).__name__}")
        setattr(self, self._name(i), module)

    def _name(self, i):
        n = len(self)
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
