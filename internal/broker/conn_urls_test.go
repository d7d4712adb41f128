package broker_test

import (
	"strings"
	"testing"

	"firstcome/internal/broker"
)

func TestBareURLs(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"":                             "",
		"nats://a:4222":                "nats://a:4222",
		"nats://u:p@a:1, tls://t@b":    "nats://a:1,tls://b",
		"ws://u:p%40ss@[::1]:80/x":     "ws://[::1]:80/x",
		"127.0.0.1:4222,u:secret@b:42": "nats://127.0.0.1:4222,nats://b:42",
		"nats://u:p%@a":                "",
	} {
		if got := broker.BareURLs(list); got != want {
			t.Errorf("%q is shown as %q, want %q", list, got, want)
		}
	}
}

// The error says where NATS was looked for, and no password.
func TestConnectErrorNamesTheServers(t *testing.T) {
	t.Parallel()
	_, err := broker.Connect(broker.Options{URLs: "nats://u:secret@127.0.0.1:1"})
	if err == nil || !strings.Contains(err.Error(), "nats://127.0.0.1:1") || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error is %v", err)
	}
}
