package broker

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrDrift is wrapped when something exists with other settings than firstcome
// needs: it is named, and never changed silently.
var ErrDrift = errors.New("exists with other settings")

// streamDrift compares the settings that the promise rests on. Descriptions,
// placement and whatever the server fills in are the operator's own, and so is more
// room than is needed.
func streamDrift(want, have jetstream.StreamConfig) error {
	var d drift
	if want.Name != ordersStream {
		d.note("subjects", want.Subjects, have.Subjects)
	} else if slices.ContainsFunc(have.Subjects, isNoProducts) { // products come and go
		d = append(d, fmt.Sprintf("subjects is %v, not orders.<product> and desk.<product> for each product", have.Subjects))
	}
	for name := range want.Metadata {
		if have.Metadata[name] == "" {
			d = append(d, fmt.Sprintf("metadata %s is missing", name))
		}
	}
	if epoch := have.Metadata[metaEpoch]; epoch != "" {
		if _, err := time.Parse(time.RFC3339Nano, epoch); err != nil {
			d = append(d, fmt.Sprintf("metadata %s is %q, not an RFC 3339 time", metaEpoch, epoch))
		}
	}
	d.note("retention", want.Retention, have.Retention)
	d.note("storage", want.Storage, have.Storage)
	d.note("num_replicas", want.Replicas, have.Replicas)
	d.note("discard", want.Discard, have.Discard)
	d.note("discard_new_per_subject", want.DiscardNewPerSubject, have.DiscardNewPerSubject)
	d.note("max_msgs", unlimited(want.MaxMsgs), unlimited(have.MaxMsgs))
	d.note("max_msgs_per_subject", unlimited(want.MaxMsgsPerSubject), unlimited(have.MaxMsgsPerSubject))
	// max_bytes and max_consumers are the operator's: a managed account may demand them.
	if size := have.MaxMsgSize; size > 0 && size < minPayload {
		d.note("max_msg_size", int32(-1), size)
	}
	d.note("max_age", want.MaxAge, have.MaxAge)
	d.note("persist_mode", want.PersistMode, have.PersistMode) // async acknowledges before it writes (P3)
	d.note("consumer_limits", want.ConsumerLimits, have.ConsumerLimits)
	d.note("duplicate_window", want.Duplicates, min(want.Duplicates, have.Duplicates))
	d.note("deny_delete", want.DenyDelete, have.DenyDelete)
	d.note("deny_purge", want.DenyPurge, have.DenyPurge)
	d.note("allow_rollup_hdrs", want.AllowRollup, have.AllowRollup)
	d.note("allow_direct", want.AllowDirect, have.AllowDirect)
	d.note("no_ack", false, have.NoAck)
	d.note("sealed", false, have.Sealed)
	d.note("allow_msg_ttl", false, have.AllowMsgTTL)
	d.note("allow_msg_counter", false, have.AllowMsgCounter)
	d.note("republish", want.RePublish, have.RePublish)
	d.note("subject_transform", want.SubjectTransform, have.SubjectTransform)
	d.note("mirror", want.Mirror, have.Mirror)
	d.note("sources", len(want.Sources), len(have.Sources))
	return d.err("stream " + want.Name)
}

// isNoProducts tells of a subject that is not one product's: a wildcard takes orders
// that nobody decides and nobody can remove.
func isNoProducts(subject string) bool {
	_, _, ok := queueSubject(subject)
	return !ok
}

// consumerDrift compares what the order of decisions, and that they are made at all,
// rest on. A pull here asks for one message and no number of bytes, so limits of
// those do not matter; replicas the server keeps equal to the queue's.
func consumerDrift(want, have jetstream.ConsumerConfig) error {
	var d drift
	d.note("filter_subjects", want.FilterSubjects, slices.Sorted(slices.Values(have.FilterSubjects)))
	d.note("ack_policy", want.AckPolicy, have.AckPolicy)
	d.note("ack_wait", want.AckWait, have.AckWait)
	d.note("max_ack_pending", want.MaxAckPending, have.MaxAckPending)
	d.note("max_deliver", want.MaxDeliver, have.MaxDeliver)
	d.note("deliver_policy", want.DeliverPolicy, have.DeliverPolicy)
	d.note("backoff", len(want.BackOff), len(have.BackOff))
	d.note("headers_only", want.HeadersOnly, have.HeadersOnly)
	d.note("replay_policy", want.ReplayPolicy, have.ReplayPolicy)
	d.note("max_waiting", want.MaxWaiting, min(want.MaxWaiting, have.MaxWaiting))
	d.note("max_expires", want.MaxRequestExpires, have.MaxRequestExpires) // pulls that wait longer are refused
	d.note("mem_storage", want.MemoryStorage, have.MemoryStorage)
	if until := have.PauseUntil; until != nil && time.Now().Before(*until) {
		d.note("pause_until", want.PauseUntil, until)
	}
	d.note("inactive_threshold", want.InactiveThreshold, have.InactiveThreshold)
	d.note("priority_policy", want.PriorityPolicy, have.PriorityPolicy)
	d.note("priority_groups", want.PriorityGroups, have.PriorityGroups)
	d.note("priority_timeout", want.PinnedTTL, have.PinnedTTL)
	return d.err("consumer " + want.Durable + " of " + ordersStream)
}

type drift []string

func (d *drift) note(setting string, want, have any) {
	if !reflect.DeepEqual(want, have) {
		*d = append(*d, fmt.Sprintf("%s is %v, not %v", setting, show(have), show(want)))
	}
}

func (d drift) err(what string) error {
	if len(d) == 0 {
		return nil
	}
	return fmt.Errorf("%s %w: %s", what, ErrDrift, strings.Join(d, "; "))
}

func show(v any) any {
	if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && !r.IsNil() {
		return r.Elem()
	}
	return v
}

func unlimited(n int64) int64 {
	if n <= 0 {
		return -1
	}
	return n
}
