package main

import (
	"testing"

	"quernplugin/quern"
)

func TestOneOrderKeyOneQueue(t *testing.T) {
	queues, chosen := make([]quern.Queue, 3), map[int]bool{}
	for _, sequence := range []string{"7", "8"} {
		m := quern.TestMessage(plugin, map[string]string{"@order_key": "customer-7", "@sequence": sequence})
		queue, err := plugin.Select(m, queues, nil)
		if err != nil {
			t.Fatal(err)
		}
		chosen[queue] = true
	}
	if len(chosen) != 1 {
		t.Error(chosen)
	}
}
