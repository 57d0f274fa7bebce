//go:build wasip1

package quern

import "unsafe"

//go:wasmimport quern:plugin/host@0.1.0 log
func hostLog(level uint32, at unsafe.Pointer, length uint32)

//go:wasmimport quern:plugin/host@0.1.0 count
func hostCount(at unsafe.Pointer, length uint32, by uint32)

func log(level Level, line string) {
	hostLog(uint32(level), unsafe.Pointer(unsafe.StringData(line)), uint32(len(line)))
}

func count(name string, by uint32) {
	hostCount(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), by)
}
