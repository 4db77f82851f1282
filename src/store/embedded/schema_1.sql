-- Times are milliseconds since 1970-01-01T00:00:00Z.

CREATE TABLE members (
    incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
    address     TEXT    NOT NULL,
    ttl_ms      INTEGER NOT NULL,
    valid_until INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    session TEXT    PRIMARY KEY,
    owner   INTEGER,
    epoch   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_owner ON sessions (owner) WHERE owner IS NOT NULL;

CREATE TABLE docs (
    number     INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    account    TEXT,
    version    INTEGER NOT NULL,
    expires_at INTEGER,
    body       BLOB    NOT NULL,
    UNIQUE (kind, id)
) STRICT;

CREATE INDEX docs_account ON docs (kind, account, id) WHERE account IS NOT NULL;
CREATE INDEX docs_expiry ON docs (expires_at, kind, id) WHERE expires_at IS NOT NULL;

-- The highest numbers given out, kept because the rows that bear them may have been removed.
CREATE TABLE last_numbers (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq         INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    account     TEXT    NOT NULL,
    space       TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    occurred_at INTEGER NOT NULL,
    appended_at INTEGER NOT NULL,
    body        BLOB    NOT NULL
) STRICT;

CREATE INDEX events_account ON events (account, seq, appended_at, space);
CREATE INDEX events_appended ON events (appended_at);

-- One row for each webhook that ever had a delivery or a change of flow.
-- flow: 0 open, 1 paused, 2 ended. due_at: when a claim may get something, NULL when nothing can be had.
-- ready: due_at was in the past when the row was last looked at; those take turns.
-- probing: one delivery at a time. rate_count, rate_us, full_at_us: a token bucket of so many tokens, the time that one takes to
-- come back, and when it is full again; rate_count is NULL without a rate.
CREATE TABLE flows (
    id         INTEGER PRIMARY KEY,
    webhook    TEXT    NOT NULL UNIQUE,
    flow       INTEGER NOT NULL DEFAULT 0,
    held_until INTEGER NOT NULL,
    probing    INTEGER NOT NULL DEFAULT 0,
    failing_since INTEGER,
    rate_count INTEGER,
    rate_us    INTEGER NOT NULL DEFAULT 0,
    full_at_us INTEGER NOT NULL DEFAULT 0,
    in_flight  INTEGER NOT NULL DEFAULT 0,
    turn       INTEGER NOT NULL DEFAULT 0,
    due_at     INTEGER,
    ready      INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX flows_due ON flows (ready, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX flows_turn ON flows (turn, webhook) WHERE ready = 1;
CREATE INDEX flows_probing ON flows (webhook) WHERE probing = 1;

-- Ordered lanes; the parallel deliveries of a webhook need no row here.
CREATE TABLE lanes (
    id    INTEGER PRIMARY KEY,
    flow  INTEGER NOT NULL REFERENCES flows (id),
    space TEXT    NOT NULL,
    UNIQUE (flow, space)
) STRICT;

-- state: 0 waits behind another of its lane, 1 waits for its time, 2 in flight, 3 delivered, 4 dead.
-- due_at: when it may be claimed (0, 1) or when its claim ends (2).
CREATE TABLE deliveries (
    id         INTEGER PRIMARY KEY,
    event      INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    flow       INTEGER NOT NULL REFERENCES flows (id),
    lane       INTEGER REFERENCES lanes (id),
    state      INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    claim_no   INTEGER NOT NULL DEFAULT 0,
    claimed_at INTEGER,
    reason     TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX deliveries_event ON deliveries (event);
CREATE INDEX deliveries_flow ON deliveries (flow, id);
CREATE INDEX deliveries_due ON deliveries (flow, due_at, id) WHERE state = 1;
CREATE INDEX deliveries_in_flight ON deliveries (due_at) WHERE state = 2;
CREATE INDEX deliveries_dead ON deliveries (flow, id) WHERE state = 4;
CREATE INDEX deliveries_lane_waiting ON deliveries (lane, id) WHERE lane IS NOT NULL AND state <= 1;
CREATE INDEX deliveries_lane_active ON deliveries (lane, state) WHERE lane IS NOT NULL AND state IN (1, 2);

CREATE TABLE attempts (
    delivery    INTEGER NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    claim_no    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    duration_ms INTEGER,
    status      INTEGER,
    error       TEXT,
    detail      TEXT,
    response    BLOB,
    PRIMARY KEY (delivery, claim_no)
) STRICT, WITHOUT ROWID;
