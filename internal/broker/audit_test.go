package broker_test

import (
	"testing"

	"firstcome/internal/broker"
)

// wantFindings wants an audit to name exactly these promises, in any number.
func wantFindings(t *testing.T, w *world, promises ...string) broker.Report {
	t.Helper()
	report, err := broker.Audit(within(t), w.connect(t))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range report.Findings {
		found[f.Promise] = true
	}
	for _, p := range promises {
		if !found[p] {
			t.Errorf("%s is not among the findings", p)
		}
		delete(found, p)
	}
	if len(found) > 0 || t.Failed() {
		for _, f := range report.Findings {
			t.Errorf("found: %s", f)
		}
	}
	return report
}
