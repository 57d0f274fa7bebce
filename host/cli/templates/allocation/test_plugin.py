import unittest
from types import SimpleNamespace

from plugin import allocate


class Allocates(unittest.TestCase):
    def test_who_weighs_twice_as_much_gets_twice_as_many(self):
        members = [SimpleNamespace(id="a", weight=2), SimpleNamespace(id="b", weight=1)]
        request = SimpleNamespace(members=members, queues=[None] * 3)
        self.assertEqual(allocate(request, {}), [0, 0, 1])
