package broker_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

func TestDriftIsRefusedAndNamed(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt")
	js := w.admin(t)
	for _, test := range []struct {
		stream, setting string
		drift           func(*jetstream.StreamConfig)
	}{
		{"ORDERS", "retention", func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy }},
		{"ORDERS", "storage", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		{"ORDERS", "discard", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }},
		{"ORDERS", "max_msgs", func(c *jetstream.StreamConfig) { c.MaxMsgs = 7 }},
		{"ORDERS", "max_msgs_per_subject", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 7 }},
		{"ORDERS", "max_msg_size", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 700 }},
		{"ORDERS", "max_age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
		{"ORDERS", "deny_delete", func(c *jetstream.StreamConfig) { c.DenyDelete = false }},
		{"ORDERS", "deny_purge", func(c *jetstream.StreamConfig) { c.DenyPurge = false }},
		{"ORDERS", "allow_direct", func(c *jetstream.StreamConfig) { c.AllowDirect = false }},
		{"ORDERS", "no_ack", func(c *jetstream.StreamConfig) { c.NoAck = true }},
		{"ORDERS", "allow_msg_ttl", func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }},
		{"ORDERS", "persist_mode", func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }},
		{"ORDERS", "duplicate_window", func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond }},
		{"ORDERS", "consumer_limits", func(c *jetstream.StreamConfig) { c.ConsumerLimits.MaxAckPending = 1 }},
		{"ORDERS", "republish", func(c *jetstream.StreamConfig) { c.RePublish = nil }},
		{"ORDERS", "republish", func(c *jetstream.StreamConfig) { c.RePublish.Destination = "elsewhere.>" }},
		{"ORDERS", "republish", func(c *jetstream.StreamConfig) { c.RePublish.HeadersOnly = true }},
		{"ORDERS", "subject_transform", func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "orders.shirt", Destination: "orders.mug"}
		}},
		{"ORDERS", "subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"orders.*", "desk.*"} }},
		{"ORDERS", "subjects", func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "orders.mug.more") }},
		{"ORDERS", "subjects", func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "others.mug") }},
		{"ORDERS", "metadata firstcome_epoch", func(c *jetstream.StreamConfig) { c.Metadata = nil }},
		{"ORDERS", "metadata firstcome_epoch", func(c *jetstream.StreamConfig) { c.Metadata["firstcome_epoch"] = "today" }},
		{"KV_stock", "metadata firstcome_store", func(c *jetstream.StreamConfig) { c.Metadata = nil }},
		{"KV_stock", "subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"$KV.stock.*"} }},
		{"KV_stock", "discard", func(c *jetstream.StreamConfig) { c.Discard, c.DiscardNewPerSubject = jetstream.DiscardOld, false }},
		{"KV_stock", "discard_new_per_subject", func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject = false }},
		{"KV_stock", "persist_mode", func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }},
		{"KV_stock", "consumer_limits", func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Second }},
		{"KV_stock", "allow_direct", func(c *jetstream.StreamConfig) { c.AllowDirect = false }},
		{"KV_stock", "allow_rollup_hdrs", func(c *jetstream.StreamConfig) { c.AllowRollup, c.DenyPurge = true, false }},
		{"KV_stock", "max_msgs", func(c *jetstream.StreamConfig) { c.MaxMsgs = 1_000_000 }},
		{"KV_stock", "max_msgs_per_subject", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 10 }},
		{"KV_stock", "max_age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
		{"KV_stock", "deny_delete", func(c *jetstream.StreamConfig) { c.DenyDelete = false }},
		{"KV_stock", "deny_purge", func(c *jetstream.StreamConfig) { c.DenyPurge = false }},
		{"KV_stock", "republish", func(c *jetstream.StreamConfig) { c.RePublish = nil }},
		{"KV_stock", "republish", func(c *jetstream.StreamConfig) {
			c.RePublish.Source, c.RePublish.Destination = "$KV.stock.>", "ledger.>"
		}},
		{"DEAD", "subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"dead.shirt"} }},
		{"DEAD", "duplicate_window", func(c *jetstream.StreamConfig) { c.Duplicates = 2 * time.Minute }},
		{"DEAD", "allow_msg_counter", func(c *jetstream.StreamConfig) { c.AllowMsgCounter = true }},
		{"DEAD", "storage", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		{"DEAD", "retention", func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }},
	} {
		t.Run(test.stream+" "+test.setting, func(t *testing.T) {
			good := w.config(t, test.stream)
			drifted := good
			drifted.Metadata = maps.Clone(good.Metadata)
			if good.RePublish != nil {
				republish := *good.RePublish
				drifted.RePublish = &republish
			}
			test.drift(&drifted)
			recreate(t, js, drifted)
			defer recreate(t, js, good)
			before := streamConfig(t, js, test.stream)

			for name, err := range map[string]error{
				"provision": broker.Provision(within(t), c, w.layout(5, "shirt", "mug")),
				"verify":    broker.Verify(within(t), c, w.layout(5, "shirt", "mug")),
			} {
				if name == "verify" && test.stream == "ORDERS" && test.setting == "max_msgs" {
					if errors.Is(err, broker.ErrDrift) {
						t.Errorf("verify minds what an admin chose: %v", err)
					}
					continue
				}
				wantDrift(t, name, err, "stream "+test.stream, test.setting+" is ")
			}
			if changed := differences(streamConfig(t, js, test.stream), before); len(changed) > 0 {
				t.Errorf("the stream was changed: %v", changed)
			}
			if _, err := broker.NewHistory(c).Newest(within(t), "mug"); !errors.Is(err, sale.ErrNotFound) {
				t.Errorf("the new product began beside the drift: %v", err)
			}
		})
	}
	t.Run("num_replicas", func(t *testing.T) {
		layout := w.layout(5, "shirt")
		layout.Replicas = 3
		err := broker.Provision(within(t), c, layout)
		for stream := range wantStreams(1) {
			wantDrift(t, "provision", err, "stream "+stream, "num_replicas is 1, not 3")
		}
	})
}

func recreate(t testing.TB, js jetstream.JetStream, c jetstream.StreamConfig) {
	t.Helper()
	if err := js.DeleteStream(within(t), c.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(within(t), c); err != nil {
		t.Fatal(err)
	}
}

func wantDrift(t *testing.T, call string, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, broker.ErrDrift) {
		t.Errorf("%s says %v", call, err)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s says %q, without %q", call, err, word)
		}
	}
}

func TestConsumerDriftIsRefusedAndNamed(t *testing.T) {
	w := on(t, one).slowly() // another pace than the connection's is drift
	c := w.sell(t, 5, "shirt", "mug")
	js := w.admin(t)
	for _, test := range []struct {
		setting string
		drift   func(*jetstream.ConsumerConfig)
	}{
		{"filter_subjects", func(c *jetstream.ConsumerConfig) { c.FilterSubjects = nil }},
		{"filter_subjects", func(c *jetstream.ConsumerConfig) { c.FilterSubjects = []string{"orders.shirt", "orders.mug"} }},
		{"filter_subjects", func(c *jetstream.ConsumerConfig) {
			c.FilterSubject, c.FilterSubjects = "orders.shirt", nil // as an earlier firstcome made it
		}},
		{"ack_wait", func(c *jetstream.ConsumerConfig) { c.AckWait = time.Minute }},
		{"max_ack_pending", func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 2 }},
		{"max_deliver", func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 }},
		{"backoff", func(c *jetstream.ConsumerConfig) {
			c.BackOff = []time.Duration{5 * time.Second, time.Minute}
		}},
		{"headers_only", func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }},
		{"inactive_threshold", func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour }},
		{"priority_policy", func(c *jetstream.ConsumerConfig) {
			c.PriorityPolicy, c.PinnedTTL = jetstream.PriorityPolicyOverflow, 0
		}},
		{"priority_timeout", func(c *jetstream.ConsumerConfig) { c.PinnedTTL = time.Hour }},
		{"mem_storage", func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true }},
		{"replay_policy", func(c *jetstream.ConsumerConfig) { c.ReplayPolicy = jetstream.ReplayOriginalPolicy }},
		{"max_waiting", func(c *jetstream.ConsumerConfig) { c.MaxWaiting = 1 }},
		{"max_expires", func(c *jetstream.ConsumerConfig) { c.MaxRequestExpires = time.Second }},
		{"pause_until", func(c *jetstream.ConsumerConfig) {
			until := time.Now().Add(time.Hour)
			c.PauseUntil = &until
		}},
		{"priority_groups", func(c *jetstream.ConsumerConfig) { c.PriorityGroups = []string{"others"} }},
	} {
		t.Run(test.setting, func(t *testing.T) {
			good := consumerConfig(t, js, "shirt")
			drifted := good
			test.drift(&drifted)
			replace := func(c jetstream.ConsumerConfig) {
				t.Helper()
				for _, name := range []string{"shirt", "mug"} { // a work queue's consumers must not overlap
					if err := js.DeleteConsumer(within(t), "ORDERS", name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
						t.Fatal(err)
					}
				}
				if _, err := js.CreateConsumer(within(t), "ORDERS", c); err != nil {
					t.Fatal(err)
				}
			}
			replace(drifted)
			before := consumerConfig(t, js, "shirt")
			if test.setting != "pause_until" { // which holds up its product alone
				wantDrift(t, "provision", broker.Provision(within(t), c, w.layout(5, "shirt")), "consumer shirt of ORDERS", test.setting+" is ")
				wantDrift(t, "verify", broker.Verify(within(t), c, w.layout(5, "shirt")), "consumer shirt of ORDERS", test.setting+" is ")
			}
			_, err := broker.NewQueue(c, "shirt", broker.Witnesses{}).Next(within(t))
			wantDrift(t, "the queue", err, "consumer shirt of ORDERS", test.setting+" is ")
			if changed := differences(consumerConfig(t, js, "shirt"), before); len(changed) > 0 {
				t.Errorf("the consumer was changed: %v", changed)
			}
		})
	}
}

// What gives more room than is needed, or is over, is the operator's own.
func TestRoomIsNoDrift(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 5, "shirt")
		js := w.admin(t)
		dead := streamConfig(t, js, "DEAD")
		dead.MaxConsumers, dead.Duplicates, dead.Description = 20_000, 2*time.Hour, "ours"
		if _, err := js.UpdateStream(within(t), dead); err != nil {
			t.Fatal(err)
		}
		shirt := consumerConfig(t, js, "shirt")
		shirt.MaxWaiting, shirt.MaxRequestBatch, shirt.MaxRequestMaxBytes = 1000, 1, 1000
		if err := js.DeleteConsumer(within(t), "ORDERS", "shirt"); err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateConsumer(within(t), "ORDERS", shirt); err != nil {
			t.Fatal(err)
		}
		if err := broker.Provision(within(t), c, w.layout(5, "shirt")); err != nil {
			t.Error(err)
		}
		if err := broker.Verify(within(t), c, w.layout(5, "shirt")); err != nil {
			t.Error(err)
		}
		queue := broker.NewQueue(c, "shirt", broker.Witnesses{})
		defer queue.Close()
		publish(t, js, "shirt", []byte("first"))
		if _, err := queue.Next(within(t)); err != nil {
			t.Error(err)
		}
	})
}

func TestPushConsumerIsDrift(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt")
	js := w.admin(t)
	if err := js.DeleteConsumer(within(t), "ORDERS", "shirt"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreatePushConsumer(within(t), "ORDERS", jetstream.ConsumerConfig{Durable: "shirt", FilterSubject: "orders.shirt",
		DeliverSubject: "elsewhere", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	wantDrift(t, "provision", broker.Provision(within(t), c, w.layout(5, "shirt")), "consumer shirt of ORDERS")
	wantDrift(t, "verify", broker.Verify(within(t), c, w.layout(5, "shirt")), "consumer shirt of ORDERS")
}
