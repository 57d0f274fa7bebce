package main

import (
	"testing"

	"quernplugin/quern"
)

func TestAnOrderWithoutAnAmountIsNotLarge(t *testing.T) {
	p, err := quern.TestParams(plugin, map[string]string{"min": "100"})
	if err != nil {
		t.Fatal(err)
	}
	for amount, wanted := range map[string]bool{"100": true, "99": false, "": false} {
		m := quern.TestMessage(plugin, map[string]string{"region": "eu", "amount": amount})
		if is, err := plugin.Matches(m, p); is != wanted || err != nil {
			t.Errorf("%q: %v, %v", amount, is, err)
		}
	}
}
