package main

import (
	"strconv"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// priorities holds the scenario of messages with priorities: the most urgent comes first. Their topic has four levels.
type priorities struct {
	clients  *clients
	producer rmq.Producer
}

func priorityScenarios(clients *clients, producer rmq.Producer) []scenario {
	it := &priorities{clients, producer}
	return []scenario{{"most_urgent_message_comes_first", it.mostUrgentMessageComesFirst}}
}

// The highest level has everything from 3 on, in order. This SDK does not show the priority of what it received.
func (p *priorities) mostUrgentMessageComesFirst() {
	topic := "go-priority"
	for range 3 {
		for _, priority := range []int32{1, 3, 0, 7, 2} {
			message := text(topic, strconv.Itoa(int(priority)))
			must(message.SetPriority(priority))
			send(p.producer, message)
		}
	}
	consumer := p.clients.simple(topic, "go-priority-group", "*", poll)
	defer stop(consumer)
	var bodies []string
	for _, received := range receive(consumer, 15, lease) {
		equal(int32(1), received.GetDeliveryAttempt(), "delivery attempt")
		bodies = append(bodies, string(received.GetBody()))
		ack(consumer, received)
	}
	wanted := []string{"3", "7", "3", "7", "3", "7", "2", "2", "2", "1", "1", "1", "0", "0", "0"}
	equal(wanted, bodies, "bodies")
}
