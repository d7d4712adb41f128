package main

import (
	"math/rand/v2"
	"testing"
)

// A port is given out before anybody listens on it, and to one test only.
func TestFreePortsAreGivenOnce(t *testing.T) {
	t.Parallel()
	given, random := map[int]bool{}, rand.New(rand.NewPCG(1, 0))
	for range 400 {
		p := freePort(t, random)
		if given[p] {
			t.Fatalf("port %d was given out twice", p)
		}
		given[p] = true
	}
}
