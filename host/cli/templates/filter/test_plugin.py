import unittest
from types import SimpleNamespace as Message

from plugin import accept
from quern_plugin.params import Values


class Accepts(unittest.TestCase):
    def test_an_order_without_an_amount_is_not_large(self):
        params = Values({"from": "eu", "min": 100})
        self.assertTrue(accept(Message(region="eu", amount=100), params))
        self.assertFalse(accept(Message(region="eu", amount=None), params))
