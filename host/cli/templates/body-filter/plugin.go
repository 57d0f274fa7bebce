// A filter that reads bodies, too: which messages does a consumer get?
package main

import (
	"bytes"

	"quernplugin/quern"
)

var plugin = quern.BodyFilter{
	About: quern.About{
		Summary: "Bodies that contain a text, and all that is urgent",
		Reads:   []string{"@tag"},
		Params:  []quern.Param{{Name: "text", Required: true, Help: "what a body has to contain"}},
	},
	// Once for each consumer, before the first message.
	Compile: func(_ string, p *quern.Params) (any, error) {
		if p.Text("text") == "" {
			return nil, &quern.Refusal{Param: "text", Reason: "every body contains nothing"}
		}
		return []byte(p.Text("text")), nil
	},
	Matches: func(m *quern.Message, p *quern.Params) (bool, error) {
		tag, _ := m.Text("@tag")
		return tag == "urgent" || bytes.Contains(m.Body, p.Compiled.([]byte)), nil
	},
}

func init() { quern.Export(plugin) }

func main() {}
