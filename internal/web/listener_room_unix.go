//go:build unix

package web

import "golang.org/x/sys/unix"

// descriptors is how many files and connections this process may have open, 0 if that
// is unknown. Go has raised the limit to the highest that is allowed at the start.
func descriptors() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
