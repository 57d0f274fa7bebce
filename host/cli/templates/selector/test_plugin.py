import unittest
from types import SimpleNamespace as Message

from plugin import select


class Selects(unittest.TestCase):
    def test_one_order_key_one_queue(self):
        messages = [Message(tag=None, order_key="customer-7", sequence=at) for at in (7, 8)]
        chosen = [select(message, [None] * 3, {}) for message in messages]
        self.assertEqual(chosen[0], chosen[1])
