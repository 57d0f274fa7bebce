package quern

import "fmt"

// Level is how much a line of the log matters.
type Level uint32

const (
	Debug Level = iota
	Info
	Warn
	Error
)

// Log writes a line to the broker's log; at most 1 KiB, ten a call.
func Log(level Level, format string, values ...any) {
	log(level, fmt.Sprintf(format, values...))
}

// Count adds to a counter of the plugin's own; at most 16 names.
func Count(name string, by uint32) {
	count(name, by)
}
