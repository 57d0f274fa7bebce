package main

import (
	"slices"
	"testing"

	"quernplugin/quern"
)

func TestWhoWeighsTwiceAsMuchGetsTwiceAsMany(t *testing.T) {
	members := []quern.Member{{ID: "a", Weight: 2}, {ID: "b", Weight: 1}}
	request := &quern.Request{Members: members, Queues: make([]quern.OwnedQueue, 3)}
	owners, err := plugin.Allocate(request, nil)
	if err != nil || !slices.Equal(owners, []int{0, 0, 1}) {
		t.Error(owners, err)
	}
}
