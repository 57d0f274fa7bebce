import unittest
from types import SimpleNamespace as Message

from plugin import accept
from quern_plugin.message import Body
from quern_plugin.params import Values


class Accepts(unittest.TestCase):
    def test_what_is_urgent_need_not_contain_anything(self):
        params, body = Values(text="paid"), Body(b"{}")
        self.assertTrue(accept(Message(tag="urgent", body=body), params, None))
        self.assertFalse(accept(Message(tag=None, body=body), params, None))
