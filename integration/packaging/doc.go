// Package packaging tests what pgweir is packed with, in configs: units of
// systemd, manifests of Kubernetes, a Dockerfile.
package packaging
