// Decodes objects of the Prometheus Operator into its own types, and refuses fields and types that these do not have.
//
//	monitoring-decode < manifests.json
//
// The input is a sequence of JSON objects; those of other API groups are skipped. It prints the kind and the name of each
// object that it decoded.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	strict "sigs.k8s.io/json"
)

func main() {
	log.SetFlags(0)
	input := json.NewDecoder(os.Stdin)
	for {
		var text json.RawMessage
		if err := input.Decode(&text); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		var head v1.PartialObjectMetadata
		if err := json.Unmarshal(text, &head); err != nil {
			log.Fatal(err)
		}
		if head.GroupVersionKind().Group != "monitoring.coreos.com" {
			continue
		}
		if err := decode(head, text); err != nil {
			log.Fatalf("%s %s: %v", head.Kind, head.Name, err)
		}
		fmt.Println(head.Kind, head.Name)
	}
}

func decode(head v1.PartialObjectMetadata, text []byte) error {
	var object any
	switch head.APIVersion + " " + head.Kind {
	case "monitoring.coreos.com/v1 ServiceMonitor":
		object = new(monitoring.ServiceMonitor)
	case "monitoring.coreos.com/v1 PrometheusRule":
		object = new(monitoring.PrometheusRule)
	default:
		return fmt.Errorf("unknown kind %s", head.APIVersion)
	}
	unknown, err := strict.UnmarshalStrict(text, object)
	return errors.Join(append(unknown, err)...)
}
