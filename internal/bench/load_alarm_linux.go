package bench

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm sleeps to within tens of microseconds. The runtime's own timers wait in
// whole milliseconds when nothing else happens, which in an open loop would be
// counted as the server's latency.
type alarm struct {
	file *os.File // a timerfd, which the runtime polls like a socket
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &alarm{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// sleep returns after d, which must be above zero, or with an error when the
// alarm is closed.
func (a *alarm) sleep(d time.Duration) error {
	raw, err := a.file.SyscallConn()
	if err != nil {
		return err
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.TimerfdSettime(int(fd), 0, &spec, nil) }); err != nil {
		return err
	}
	if set != nil {
		return os.NewSyscallError("timerfd_settime", set)
	}
	var expirations [8]byte
	_, err = a.file.Read(expirations[:])
	return err
}

// close ends a sleep. It may be called again, and from elsewhere.
func (a *alarm) close() {
	_ = a.file.Close() // holds nothing; the second call's error says so
}
