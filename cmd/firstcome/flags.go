package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// filled is a text flag that refuses to be empty: an empty value is most often a
// shell variable that nobody has set, and must not pass for a flag left out.
type filled struct {
	text *string
	hint string // what to write instead, if anything
}

func textFlag(f *pflag.FlagSet, text *string, name, usage string) {
	f.Var(filled{text: text}, name, usage)
}

// String implements pflag.Value.
func (v filled) String() string { return *v.text }

// Type implements pflag.Value. It is what the help shows.
func (filled) Type() string { return "string" }

// Set implements pflag.Value.
func (v filled) Set(text string) error {
	if text == "" {
		return errors.New("must not be empty" + v.hint)
	}
	*v.text = text
	return nil
}

// negative mends the message about a negative number, which reads as a flag.
func negative(command string, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		if units, e := parseUnits("-" + unknown.GetSpecifiedShortnames()); e == nil && units < 0 {
			err = fmt.Errorf("%w: a negative number follows --, as in: %s -- %d", err, command, units)
		}
	}
	return usageError{err}
}
