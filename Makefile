# pgweir's workshop. `make` alone lists the targets.

GO       ?= go
VERSION  ?=
TAGS     ?=
FUZZTIME ?= 30s
SEEDS    ?= 1000
SEED     ?=
DRIVERS  ?=
MATRIX   ?= 15 17 18

export GOFLAGS += -buildvcs=false

TOOLS       := mvdan.cc/gofumpt@v0.12.0 honnef.co/go/tools/cmd/staticcheck@v0.8.2 github.com/OpenPeeDeeP/depguard/v2/cmd/depguard@v2.3.0 golang.org/x/vuln/cmd/govulncheck@v1.8.0
GOFUMPT     := $(GO) run $(filter mvdan.cc/gofumpt@%,$(TOOLS))
STATICCHECK := $(GO) run $(filter honnef.co/go/tools/%,$(TOOLS))
DEPGUARD    := $(GO) run $(filter github.com/OpenPeeDeeP/depguard/%,$(TOOLS))
export GOVULNCHECK := $(GO) run $(filter golang.org/x/vuln/%,$(TOOLS))

.PHONY: help
help: ## list the targets
	@echo 'usage: make TARGET'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-14s %s\n", $$1, $$2 }'

.PHONY: build
build: ## build bin/pgweir (VERSION=x.y.z for a release, TAGS=pam for PAM)
	CGO_ENABLED=$(if $(filter pam,$(TAGS)),1,0) $(GO) build -trimpath $(if $(TAGS),-tags '$(TAGS)') $(if $(VERSION),-ldflags '-X main.version=$(VERSION)') -o bin/pgweir ./cmd/pgweir

.PHONY: download
download: ## download the Go modules and tools that the rest needs
	@.ci/retry $(GO) mod download
	@.ci/retry $(GO) -C integration/drivers/go mod download
	@for tool in $(TOOLS); do GOBIN=$(CURDIR)/.cache/bin .ci/retry $(GO) install $$tool || exit; done

.PHONY: run
run: build ## show it: a private Postgres (or DATABASE_URL), pgweir in front, ten seconds of load, then psql
	@[ -n "$$DATABASE_URL" ] || .ci/install postgres
	@$(GO) build -o bin/demo ./integration/demo
	@exec bin/demo -pgweir bin/pgweir

.PHONY: test
test: postgres ## run every test: unit, simulation, integration
	$(GO) test -timeout 15m ./...
	@if .ci/install pam; then PGWEIR_BUILD=-tags=pam $(GO) test -tags=pam -run PAM ./configs ./pool/pam ./integration; else echo 'PAM is not tested: its headers are missing'; fi

.PHONY: test-race
test-race: postgres ## run every test under the race detector, over the epoll loop and over its poll(2) twin
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v /integration)
	PGWEIR_BUILD='-race -tags=pollloop' $(GO) test -race -tags=pollloop -timeout 20m $$($(GO) list ./... | grep -v /integration/sim)

.PHONY: test-matrix
test-matrix: postgres ## run the integration tests against each Postgres of MATRIX
	@set -e; for major in $(MATRIX); do \
		bin=$$(.ci/postgres $$major); \
		echo "postgres $$major: $$bin"; \
		PGWEIR_PG_BIN=$$bin $(GO) test -count=1 -timeout 15m ./integration ./integration/postgres ./integration/load; \
	done

.PHONY: bench
bench: build ## measure against PgBouncer and HAProxy; writes integration/bench/report.md (BENCH_ROUNDS, BENCH_SECONDS, BENCH_ONLY, BENCH_PGBOUNCER)
	@.ci/install postgres haproxy; [ -n "$$BENCH_PGBOUNCER" ] || .ci/install pgbouncer
	@$(GO) build -o bin/bench ./integration/bench
	@exec bin/bench -pgweir bin/pgweir

.PHONY: drivers
drivers: build postgres ## hold it against the drivers that applications use, installed into .cache (DRIVERS="jdbc pgx" only those)
	@.ci/install python3 npm javac mvn cargo
	@$(GO) build -o bin/drivers ./integration/drivers
	@exec bin/drivers -pgweir bin/pgweir -tls both -only '$(DRIVERS)'

.PHONY: scenario
scenario: build postgres ## run a Django app without a pooler, with PgBouncer, with pgweir exec; writes docs/scenarios.md (SCENARIO_ROUNDS, SCENARIO_SECONDS, SCENARIO_ONLY, SCENARIO_PGBOUNCER)
	@.ci/install python3; [ -n "$$SCENARIO_PGBOUNCER" ] || .ci/install pgbouncer
	@$(GO) build -o bin/scenario ./integration/scenario
	@exec bin/scenario -pgweir bin/pgweir

.PHONY: scenario-quick
scenario-quick: build postgres ## the same in a minute, only to see that no request fails through pgweir exec
	@.ci/install python3
	@$(GO) build -o bin/scenario ./integration/scenario
	@exec bin/scenario -pgweir bin/pgweir -quick

.PHONY: plans
plans: postgres ## 40 pools on a plan of 20 connections, for PLAN_SECONDS (60)
	PLAN_SECONDS=$(or $(PLAN_SECONDS),60) $(GO) test -count=1 -v -timeout 15m -run '^TestPlan$$' ./integration

.PHONY: sim
sim: ## simulate: SEEDS=n many runs, or SEED=s that one alone
	cd integration/sim && $(GO) test -count=1 -timeout 0 $(if $(SEED),-run '^TestSeed$$' -v -args -seed=$(SEED),-run '^TestSeeds$$' -args -seeds=$(SEEDS))

.PHONY: fuzz
fuzz: ## run every fuzzer for FUZZTIME
	@set -e; for package in $$($(GO) list ./...); do \
		for fuzzer in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || :); do \
			echo "$$package $$fuzzer"; \
			$(GO) test -run '^$$' -fuzz "^$$fuzzer$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: lint
lint: ## gofumpt, go vet, staticcheck, and the import order (.ci/depguard.yaml)
	@unformatted=$$($(GOFUMPT) -l .); [ -z "$$unformatted" ] || { echo "not gofumpt'ed:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	$(GO) vet -tags=pollloop ./...
	$(STATICCHECK) ./...
	cd integration/drivers/go && $(GO) vet ./... && $(STATICCHECK) ./...
	cd .ci && $(DEPGUARD) github.com/pgweir/pgweir/...

.PHONY: vuln
vuln: ## check against Go's vulnerability database
	@.ci/vuln

.PHONY: generate
generate: ## regenerate what is generated (docs/settings.md)
	$(GO) generate ./...

.PHONY: buildpacks
buildpacks: ## make bin/buildpacks: for Heroku, classic and Cloud Native (VERSION=x.y.z for a release)
	@configs/heroku/pack bin/buildpacks $(VERSION)

.PHONY: clean
clean: ## remove what was built and downloaded
	rm -rf bin .cache

.PHONY: postgres
postgres:
	@.ci/install postgres
