// Package quern is what the author of a plugin in Go imports.
//
// A plugin is a [Filter], a [BodyFilter], a [Selector] or an [Allocation], whichever plugin.toml names as its kind, that is
// given to [Export] before main would run:
//
//	func init() {
//		quern.Export(quern.Filter{
//			Reads:   []string{"region"},
//			Matches: func(m *quern.Message, p *quern.Params) (bool, error) {
//				region, is := m.Text("region")
//				return is && region == "eu", nil
//			},
//		})
//	}
//
// There are no files, no network, no goroutine that outlives a call, a clock that stands still and no memory of earlier messages: the same
// message gets the same answer. What a plugin panics with is logged with its place, and is a failure of that call.
package quern

// About is what all kinds say of themselves.
type About struct {
	// Summary is one line; by default the description in plugin.toml.
	Summary string
	// Reads names what is read of each message: "region" is a property, "amount:int" one read as a whole number; of the
	// message itself there are the texts @tag @keys @topic @message_id @order_key @group @zone and the numbers @tag_code
	// @queue_id @queue_offset @size @born_at @stored_at @attempts, for selectors @sequence @random as well.
	Reads []string
	// Params are what consumers set.
	Params []Param
	// Language is what consumers call the expressions a filter understands; empty = it takes none.
	Language string
}

// Filter decides which messages a consumer gets.
type Filter struct {
	About
	Matches func(m *Message, p *Params) (bool, error)
	// Compile is called once for each consumer, if it is there; what it returns is p.Compiled. An error refuses the
	// consumer, a *Refusal says where it went wrong.
	Compile func(expression string, p *Params) (any, error)
}

// BodyFilter is the same, with m.Body to read.
type BodyFilter struct {
	About
	Matches func(m *Message, p *Params) (bool, error)
	Compile func(expression string, p *Params) (any, error)
}

// Queue is one that takes messages.
type Queue struct {
	Broker string
	ID     uint32
	// Zone is empty if it is unknown.
	Zone string
	// LatencyMicros is a moving average of its broker's appends; 0 = unknown.
	LatencyMicros uint32
	// Backlog counts the requests that wait for its broker's log.
	Backlog uint32
}

// Selector decides which queue a message goes to that its sender left open.
type Selector struct {
	About
	// Select returns the number of a queue, counted from 0. There is at least one.
	Select func(m *Message, queues []Queue, p *Params) (int, error)
	Open   func(p *Params) (any, error)
}

// Member is one of a group.
type Member struct {
	ID string
	// Zone is empty if it is unknown.
	Zone   string
	Weight uint32
}

// Nobody is the owner of a queue that none shall consume.
const Nobody = -1

// OwnedQueue is one that somebody shall consume.
type OwnedQueue struct {
	Broker string
	ID     uint32
	Zone   string
	// Owner is today's, the number of a member, or Nobody.
	Owner int
	// Lag counts the messages not yet consumed; -1 = unknown.
	Lag int64
}

// Request is what is to be shared out among whom. Members are sorted by id as Java sorts, queues by broker and id.
type Request struct {
	Group, Topic string
	Members      []Member
	Queues       []OwnedQueue
}

// Allocation decides who of a group consumes which queue.
type Allocation struct {
	About
	// Allocate returns the number of each queue's member, counted from 0, or Nobody.
	Allocate func(r *Request, p *Params) ([]int, error)
	Check    func(p *Params) error
}

// Plugin is one of the four.
type Plugin interface {
	about() *About
	kind() string
}

func (it Filter) about() *About     { return &it.About }
func (it BodyFilter) about() *About { return &it.About }
func (it Selector) about() *About   { return &it.About }
func (it Allocation) about() *About { return &it.About }

func (it Filter) kind() string     { return "filter" }
func (it BodyFilter) kind() string { return "body-filter" }
func (it Selector) kind() string   { return "selector" }
func (it Allocation) kind() string { return "allocation" }

var exported Plugin

// Export makes this the plugin; called once, from an init function.
func Export(plugin Plugin) {
	exported = plugin
}
