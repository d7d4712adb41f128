package sale

import (
	"context"
	"time"
)

// pause waits before the next attempt: 20 ms, doubling to 1 s.
func pause(ctx context.Context, attempt int) {
	ctx, cancel := context.WithTimeout(ctx, min(time.Second, 20*time.Millisecond<<min(attempt, 6)))
	defer cancel()
	<-ctx.Done()
}

// outlive returns a context that ends some time after parent does.
func outlive(parent context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		timer := time.AfterFunc(by, cancel)
		context.AfterFunc(ctx, func() { timer.Stop() })
	})
	return ctx, func() { stop(); cancel() }
}
