package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The tests in e2e_*_test.go and browser_test.go know only what an operator and
// a buyer know: the built binary, its ports, its output, and NATS.

// patience bounds every single wait; none takes that long on a healthy machine.
const patience = 30 * time.Second

// buildDir holds the binary; TestMain removes it.
var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "firstcome-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m,
		// fasthttp's clock for Date headers, which never stops, and the janitor of a stopped
		// server, which sleeps for up to 10 s.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.Cleanup(func(code int) {
			_ = os.RemoveAll(buildDir) // what stays behind is a temporary directory
			os.Exit(code)
		}))
}

// binary builds the program, once, as a user would.
var binary = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(buildDir, "firstcome")
	out, err := exec.Command("go", "build", "-o", path, "firstcome/cmd/firstcome").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, err
})

// command is the built binary with arguments, in an environment that says nothing
// to it but to take a free operator's port, for which a demo has no flag.
func command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"FIRSTCOME_OPS_LISTEN=127.0.0.1:0"}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FIRSTCOME_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

// result is what a finished command left.
type result struct {
	stdout, stderr string
	code           int
}

// cli runs a command to its end.
func cli(t testing.TB, args ...string) result {
	t.Helper()
	cmd := command(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ended := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	if err := cmd.Start(); err != nil {
		ended.Stop()
		t.Fatal(err)
	}
	err := cmd.Wait()
	if !ended.Stop() {
		t.Fatalf("firstcome %s did not end\n%s%s", strings.Join(args, " "), &stdout, &stderr)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// want fails unless the command ended with code and said each of the texts, on
// either output.
func (r result) want(t testing.TB, code int, texts ...string) result {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("nothing says %q\nstdout: %s\nstderr: %s", text, r.stdout, r.stderr)
		}
	}
	return r
}

// process is a running firstcome, or a server that it needs. It is killed, at the
// latest, when its test ends.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	said *transcript
	done chan struct{} // closed when it has ended and was waited for
}

func launch(t testing.TB, args ...string) *process {
	t.Helper()
	return begin(t, command(t, args...))
}

// begin starts a command as a process.
func begin(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, said: newTranscript(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // its exit code is in ProcessState
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", strings.Join(cmd.Args, " "), p.said)
		}
	})
	return p
}

// kill ends the process as a power cut would end it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.done
}

// terminate asks the process to stop.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("SIGTERM: %v", err)
	}
}

// exit waits for the end and returns the exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatal("the process did not end")
		return -1
	}
}

// stop ends the process properly, which must succeed.
func (p *process) stop() {
	p.t.Helper()
	p.terminate()
	if code := p.exit(); code != 0 {
		p.t.Fatalf("exit code %d after SIGTERM\n%s", code, p.said)
	}
}

// await returns the groups of the first match in what the process says.
func (p *process) await(pattern string) []string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	context.AfterFunc(ctx, p.said.wake)
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	found := p.said.find(ctx, regexp.MustCompile(pattern))
	if found == nil {
		p.t.Fatalf("the process never said %q\n%s", pattern, p.said)
	}
	return found
}

// transcript is everything that a process has said so far.
type transcript struct {
	mu   sync.Mutex
	more *sync.Cond
	text bytes.Buffer
}

func newTranscript() *transcript {
	s := &transcript{}
	s.more = sync.NewCond(&s.mu)
	return s
}

func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more.Broadcast()
	return s.text.Write(b)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *transcript) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more.Broadcast()
}

// find waits for a match until ctx ends; ending it must be followed by wake.
func (s *transcript) find(ctx context.Context, pattern *regexp.Regexp) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if found := pattern.FindStringSubmatch(s.text.String()); found != nil {
			return found
		}
		if ctx.Err() != nil {
			return nil
		}
		s.more.Wait()
	}
}
