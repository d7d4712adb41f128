package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"firstcome/internal/broker"
)

func TestProvisionNeedsAProduct(t *testing.T) {
	w := on(t, one)
	if err := broker.Provision(within(t), w.connect(t), broker.Layout{Replicas: 1}); err == nil {
		t.Error("a sale without a product was provisioned")
	}
}

func TestVerifyNamesWhatIsMissing(t *testing.T) {
	w := on(t, one)
	c := w.connect(t)
	layout := w.layout(5, "shirt")
	err := broker.Verify(within(t), c, layout)
	for stream := range wantStreams(1) {
		if err == nil || !strings.Contains(err.Error(), "stream "+stream) {
			t.Errorf("verify says %v, without stream %s", err, stream)
		}
	}
	if errors.Is(err, broker.ErrDrift) {
		t.Errorf("what is missing is no drift: %v", err) // it may come
	}
	if err := broker.Provision(within(t), c, layout); err != nil {
		t.Fatal(err)
	}
	js := w.admin(t)
	if err := js.DeleteConsumer(within(t), "ORDERS", "shirt"); err != nil {
		t.Fatal(err)
	}
	if err := broker.Verify(within(t), c, layout); err == nil || !strings.Contains(err.Error(), "consumer shirt") {
		t.Errorf("verify says %v, without the consumer", err)
	}
	if err := broker.Provision(within(t), c, layout); err != nil {
		t.Fatal(err)
	}
	for name := range wantStreams(1) {
		if err := js.DeleteStream(within(t), name); err != nil {
			t.Fatal(err)
		}
		if err := broker.Verify(within(t), c, layout); err == nil || !strings.Contains(err.Error(), "stream "+name) {
			t.Errorf("verify says %v, without stream %s", err, name)
		}
		if err := broker.Provision(within(t), c, layout); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVerifyLeavesTheAdminHisChoice(t *testing.T) {
	w := on(t, three)
	c := w.sell(t, 5, "shirt")
	layout := broker.Layout{Replicas: 1, MaxMessages: 5}
	if err := broker.Verify(within(t), c, layout); err != nil {
		t.Error(err)
	}
	if err := broker.Verify(within(t), c, broker.Layout{}); err != nil {
		t.Error(fmt.Errorf("without a layout: %w", err))
	}
}

// A server that is away just now may be new enough.
func TestCheckWaitsForALostServer(t *testing.T) {
	w := on(t, one)
	g := w.gate()
	c := dial(t, w.options(t, g))
	g.close()
	eventually(t, "the loss is noticed", func() bool { return !c.Connected() })
	eventually(t, "nobody is asked", func() bool {
		err := c.Check(within(t))
		return err != nil && !broker.Final(err)
	})
	g.open()
	eventually(t, "it is back", func() bool { return c.Check(within(t)) == nil })
}

func TestCheckAsksForJetStream(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		if err := w.connect(t).Check(within(t)); err != nil {
			t.Error(err)
		}
	})
}
