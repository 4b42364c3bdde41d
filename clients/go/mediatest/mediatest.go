// Package mediatest is the service in your tests: `avion-media dev` on free ports.
package mediatest

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

const limit = 2 * time.Minute // of the start, and of the stop; each takes some seconds

const help = "Set AVION_DEV_COMMAND to the command that starts the service: docs/how-to/test-against-it.md of avion-media"

var printed = regexp.MustCompile(`(?s)origin (\S+)\s+gRPC (\S+).*Redis (\S+)`)

// Service is a running service. Address is that of gRPC, Origin the start of the URLs of media.
type Service struct {
	Address, Origin, RedisURL string
	command                   *exec.Cmd
}

// Start runs the command in AVION_DEV_COMMAND, or `avion-media dev`, on free ports. It returns when the service is ready.
func Start() (*Service, error) {
	words := strings.Fields(cmp.Or(os.Getenv("AVION_DEV_COMMAND"), "avion-media dev"))
	command := exec.Command(words[0], append(words[1:], "--free-ports")...)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("%s did not start: %w. %s", words[0], err, help)
	}
	kill := time.AfterFunc(limit, func() { command.Process.Kill() })
	defer kill.Stop()
	var text string
	for lines := bufio.NewScanner(output); !strings.Contains(text, "Ctrl-C") && lines.Scan(); {
		text += lines.Text() + "\n"
	}
	service := &Service{command: command}
	found := printed.FindStringSubmatch(text)
	if found == nil {
		return nil, fmt.Errorf("%s ended before it was ready: %v. %s\n%s", words[0], service.Stop(), help, text)
	}
	service.Origin, service.Address, service.RedisURL = found[1], found[2], found[3]
	return service, nil
}

// Stop ends the service, and returns when it has ended.
func (s *Service) Stop() error {
	kill := time.AfterFunc(limit, func() { s.command.Process.Kill() })
	defer kill.Stop()
	s.command.Process.Signal(syscall.SIGTERM)
	return s.command.Wait()
}
