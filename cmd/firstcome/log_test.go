package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// A duration is read by people in either format: it comes with its unit.
func TestLoggedDurationsHaveAUnit(t *testing.T) {
	for format, want := range map[string]string{"text": ` after=40.152s `, "json": `"after":"40.152s",`} {
		var said bytes.Buffer
		newLogger(logConfig{Level: "info", Format: format}, &said).Info("over", "after", 40152*time.Millisecond, "n", 1)
		if !strings.Contains(said.String(), want) {
			t.Errorf("%s: %s does not say %s", format, &said, want)
		}
	}
}
