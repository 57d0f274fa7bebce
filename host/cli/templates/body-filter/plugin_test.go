package main

import (
	"testing"

	"quernplugin/quern"
)

func TestWhatIsUrgentNeedNotContainAnything(t *testing.T) {
	p := &quern.Params{Compiled: []byte("paid")}
	for tag, wanted := range map[string]bool{"urgent": true, "": false} {
		m := quern.TestMessage(plugin, map[string]string{"@tag": tag})
		m.Body = []byte(`{"state":"new"}`)
		if is, err := plugin.Matches(m, p); is != wanted || err != nil {
			t.Errorf("%q: %v, %v", tag, is, err)
		}
	}
}
