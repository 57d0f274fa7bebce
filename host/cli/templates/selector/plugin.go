// A queue selector: which queue does a message go to that its sender left open?
package main

import "quernplugin/quern"

var plugin = quern.Selector{
	About: quern.About{
		Summary: "A queue of their own for urgent messages",
		Reads:   []string{"@tag", "@order_key", "@sequence"},
	},
	// The number of a queue, counted from 0.
	Select: func(m *quern.Message, queues []quern.Queue, _ *quern.Params) (int, error) {
		others := int64(len(queues) - 1)
		if tag, _ := m.Text("@tag"); others == 0 || tag == "urgent" {
			return 0, nil
		}
		// Messages with one order key share a queue; the others take them in turn.
		number, _ := m.Integer("@sequence")
		if key, has := m.Text("@order_key"); has {
			number = int64(quern.HashCode(key))
		}
		return int(1 + (number%others+others)%others), nil
	},
}

func init() { quern.Export(plugin) }

func main() {}
