package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// ServeBaseline serves the bare handler on a free loopback port, writes its URL
// as one line to out, and ends when in is closed or ctx is done. It is what the
// command in Config.Baseline has to run: in a process of its own, as the target
// is, so that both leave the same to the generator.
func ServeBaseline(ctx context.Context, in io.Reader, out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, BodyLimit: 4 << 10})
	app.Post("/buy", bareBuy)
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	orphaned := make(chan struct{})
	go func() {
		// Ends with the parent's pipe; the process is about to end when it does not.
		_, _ = io.Copy(io.Discard, in)
		close(orphaned)
	}()
	if _, err := fmt.Fprintf(out, "http://%s\n", ln.Addr()); err != nil {
		return errors.Join(fmt.Errorf("baseline: %w", err), app.ShutdownWithTimeout(time.Second))
	}
	select {
	case err := <-served:
		return fmt.Errorf("baseline: %w", err)
	case <-orphaned:
	case <-ctx.Done():
	}
	if err := app.ShutdownWithTimeout(time.Second); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("baseline: %w", err)
	}
	return nil
}

const bareID = "01980000-0000-7000-8000-000000000000"

// bareBuy does what no answer to an order can do without: it parses the body,
// and writes an answer of the contract's shape and size.
func bareBuy(c *fiber.Ctx) error {
	var order struct {
		Email    string `json:"email"`
		Product  string `json:"product"`
		Quantity int    `json:"quantity"`
	}
	if err := json.Unmarshal(c.Body(), &order); err != nil || order.Email == "" {
		return fiber.ErrBadRequest
	}
	r := c.Response()
	r.SetStatusCode(fiber.StatusAccepted)
	r.Header.SetContentType(fiber.MIMEApplicationJSON)
	r.Header.Set(fiber.HeaderLocation, "/orders/"+bareID)
	r.AppendBodyString(`{"message":"Your order is in the queue","order":{"id":"` + bareID + `","product":"tshirt","email":"`)
	r.AppendBodyString(order.Email)
	r.AppendBodyString(`","quantity":1,"status":"pending","message":"Your order is in the queue","rev":0,"placed_at":"2025-01-01T00:00:00.000000000Z"}}`)
	return nil
}

// baseline is the running process.
type baseline struct {
	at     []instance
	cmd    *exec.Cmd
	stdin  io.Closer
	errors *bytes.Buffer // of the process; read only after Wait
}

func startBaseline(ctx context.Context, argv []string) (*baseline, error) {
	b := &baseline{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), errors: &bytes.Buffer{}}
	b.cmd.WaitDelay = 2 * time.Second
	b.cmd.Stderr = b.errors
	stdin, err := b.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	b.stdin = stdin
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	giveUp := time.AfterFunc(10*time.Second, func() { _ = b.cmd.Process.Kill() }) // then the read below ends
	line, err := bufio.NewReader(stdout).ReadString('\n')
	giveUp.Stop()
	if err == nil {
		b.at, err = parseInstances([]string{strings.TrimSpace(line)})
	}
	if err != nil {
		err = fmt.Errorf("baseline: %s did not say where it listens: %w", strings.Join(argv, " "), err)
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

// stop ends the process and waits for its end.
func (b *baseline) stop() error {
	_ = b.stdin.Close() // the process may be gone already, which Wait reports
	ended := time.AfterFunc(5*time.Second, func() { _ = b.cmd.Process.Kill() })
	defer ended.Stop()
	if err := b.cmd.Wait(); err != nil {
		return fmt.Errorf("baseline: %w: %.500s", err, b.errors)
	}
	return nil
}
