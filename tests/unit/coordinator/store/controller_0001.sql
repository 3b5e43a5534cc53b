BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE batches (
	batch_id VARCHAR(80) NOT NULL, 
	pool VARCHAR(64) NOT NULL, 
	outcome VARCHAR(16) NOT NULL, 
	detail TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (batch_id)
);
CREATE TABLE decisions (
	id INTEGER NOT NULL, 
	pool VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	explanation JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "decisions" VALUES(1,'pool',1000001.0,'{"pool": "pool", "time": 1000001.0, "based_on": 0, "sentence": "launched 2: 0 of 2 wanted, preserve_n is 2, 0 usable or on the way", "state": "PENDING", "reason": "0 running and 0 pending of 2 wanted; preserve_n is 2, 0 usable or on the way", "engine": "n_preserving", "inputs": {"counts": {"supply": 0, "running": 0, "pending": 0, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 0}, "readings": {}, "unhealthy": {}, "previous_size": null}, "wish": {"size": 2, "reason": "preserve_n is 2, 0 usable or on the way", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 2, "reason": "not limiting"}, {"name": "min", "size": 2, "reason": "not limiting"}, {"name": "max", "size": 2, "reason": "not limiting"}], "wanted": 2, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 0, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [{"command": "LaunchInstances", "launch_id": "pool-0003", "count": 2, "unique_id": null, "cloud": "here", "reason": "preserve_n is 2, 0 usable or on the way"}], "why_not_more": ["no more are wanted: preserve_n is 2, 0 usable or on the way"], "why_not_fewer": ["all that are left are wanted: preserve_n is 2, 0 usable or on the way"]}');
INSERT INTO "decisions" VALUES(2,'pool',1000002.0,'{"pool": "pool", "time": 1000002.0, "based_on": 3, "sentence": "no action: 2 of 2 wanted, preserve_n is 2", "state": "PENDING", "reason": "0 running and 2 pending of 2 wanted; preserve_n is 2", "engine": "n_preserving", "inputs": {"counts": {"supply": 2, "running": 0, "pending": 2, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 2}, "readings": {}, "unhealthy": {}, "previous_size": 2}, "wish": {"size": 2, "reason": "preserve_n is 2", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 2, "reason": "not limiting"}, {"name": "min", "size": 2, "reason": "not limiting"}, {"name": "max", "size": 2, "reason": "not limiting"}], "wanted": 2, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 2, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [], "why_not_more": ["no more are wanted: preserve_n is 2"], "why_not_fewer": ["all that are left are wanted: preserve_n is 2"]}');
INSERT INTO "decisions" VALUES(3,'pool',1000006.0,'{"pool": "pool", "time": 1000006.0, "based_on": 7, "sentence": "no action: 2 of 2 wanted, preserve_n is 2", "state": "PENDING", "reason": "as wanted since this cycle; preserve_n is 2", "engine": "n_preserving", "inputs": {"counts": {"supply": 2, "running": 2, "pending": 0, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 2}, "readings": {}, "unhealthy": {}, "previous_size": 2}, "wish": {"size": 2, "reason": "preserve_n is 2", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 2, "reason": "not limiting"}, {"name": "min", "size": 2, "reason": "not limiting"}, {"name": "max", "size": 2, "reason": "not limiting"}], "wanted": 2, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 2, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [], "why_not_more": ["no more are wanted: preserve_n is 2"], "why_not_fewer": ["all that are left are wanted: preserve_n is 2"]}');
INSERT INTO "decisions" VALUES(4,'pool',1000007.0,'{"pool": "pool", "time": 1000007.0, "based_on": 8, "sentence": "no action: 2 of 2 wanted, preserve_n is 2", "state": "STABLE", "reason": "preserve_n is 2", "engine": "n_preserving", "inputs": {"counts": {"supply": 2, "running": 2, "pending": 0, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 2}, "readings": {}, "unhealthy": {}, "previous_size": 2}, "wish": {"size": 2, "reason": "preserve_n is 2", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 2, "reason": "not limiting"}, {"name": "min", "size": 2, "reason": "not limiting"}, {"name": "max", "size": 2, "reason": "not limiting"}], "wanted": 2, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 2, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [], "why_not_more": ["no more are wanted: preserve_n is 2"], "why_not_fewer": ["all that are left are wanted: preserve_n is 2"]}');
INSERT INTO "decisions" VALUES(5,'pool',1000026.0,'{"pool": "pool", "time": 1000026.0, "based_on": 8, "sentence": "launched 2: 2 of 4 wanted, preserve_n is 4, 2 usable or on the way", "state": "PENDING", "reason": "2 running and 0 pending of 4 wanted; preserve_n is 4, 2 usable or on the way", "engine": "n_preserving", "inputs": {"counts": {"supply": 2, "running": 2, "pending": 0, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 2}, "readings": {}, "unhealthy": {}, "previous_size": 2}, "wish": {"size": 4, "reason": "preserve_n is 4, 2 usable or on the way", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 4, "reason": "not limiting"}, {"name": "min", "size": 4, "reason": "not limiting"}, {"name": "max", "size": 4, "reason": "not limiting"}], "wanted": 4, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 2, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [{"command": "LaunchInstances", "launch_id": "pool-0005", "count": 2, "unique_id": null, "cloud": "here", "reason": "preserve_n is 4, 2 usable or on the way"}], "why_not_more": ["no more are wanted: preserve_n is 4, 2 usable or on the way"], "why_not_fewer": ["all that are left are wanted: preserve_n is 4, 2 usable or on the way"]}');
INSERT INTO "decisions" VALUES(6,'pool',1000027.0,'{"pool": "pool", "time": 1000027.0, "based_on": 12, "sentence": "launched 1: 3 of 4 wanted, preserve_n is 4, 3 usable or on the way", "state": "PENDING", "reason": "1 running and 2 pending of 4 wanted; preserve_n is 4, 3 usable or on the way", "engine": "n_preserving", "inputs": {"counts": {"supply": 3, "running": 1, "pending": 2, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 3}, "readings": {}, "unhealthy": {}, "previous_size": 4}, "wish": {"size": 4, "reason": "preserve_n is 4, 3 usable or on the way", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 4, "reason": "not limiting"}, {"name": "min", "size": 4, "reason": "not limiting"}, {"name": "max", "size": 4, "reason": "not limiting"}], "wanted": 4, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 3, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [{"command": "LaunchInstances", "launch_id": "pool-0007", "count": 1, "unique_id": null, "cloud": "here", "reason": "preserve_n is 4, 3 usable or on the way"}], "why_not_more": ["no more are wanted: preserve_n is 4, 3 usable or on the way"], "why_not_fewer": ["all that are left are wanted: preserve_n is 4, 3 usable or on the way"]}');
INSERT INTO "decisions" VALUES(7,'pool',1000028.0,'{"pool": "pool", "time": 1000028.0, "based_on": 15, "sentence": "no action: 4 of 4 wanted, preserve_n is 4", "state": "PENDING", "reason": "1 running and 3 pending of 4 wanted; preserve_n is 4", "engine": "n_preserving", "inputs": {"counts": {"supply": 4, "running": 1, "pending": 3, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 4}, "readings": {}, "unhealthy": {}, "previous_size": 4}, "wish": {"size": 4, "reason": "preserve_n is 4", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 4, "reason": "not limiting"}, {"name": "min", "size": 4, "reason": "not limiting"}, {"name": "max", "size": 4, "reason": "not limiting"}], "wanted": 4, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 4, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [], "why_not_more": ["no more are wanted: preserve_n is 4"], "why_not_fewer": ["all that are left are wanted: preserve_n is 4"]}');
INSERT INTO "decisions" VALUES(8,'pool',1000032.0,'{"pool": "pool", "time": 1000032.0, "based_on": 21, "sentence": "no action: 4 of 4 wanted, preserve_n is 4", "state": "PENDING", "reason": "as wanted since this cycle; preserve_n is 4", "engine": "n_preserving", "inputs": {"counts": {"supply": 4, "running": 4, "pending": 0, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 4}, "readings": {}, "unhealthy": {}, "previous_size": 4}, "wish": {"size": 4, "reason": "preserve_n is 4", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 4, "reason": "not limiting"}, {"name": "min", "size": 4, "reason": "not limiting"}, {"name": "max", "size": 4, "reason": "not limiting"}], "wanted": 4, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 4, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [], "why_not_more": ["no more are wanted: preserve_n is 4"], "why_not_fewer": ["all that are left are wanted: preserve_n is 4"]}');
INSERT INTO "decisions" VALUES(9,'pool',1000033.0,'{"pool": "pool", "time": 1000033.0, "based_on": 22, "sentence": "no action: 4 of 4 wanted, preserve_n is 4", "state": "STABLE", "reason": "preserve_n is 4", "engine": "n_preserving", "inputs": {"counts": {"supply": 4, "running": 4, "pending": 0, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 4}, "readings": {}, "unhealthy": {}, "previous_size": 4}, "wish": {"size": 4, "reason": "preserve_n is 4", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 4, "reason": "not limiting"}, {"name": "min", "size": 4, "reason": "not limiting"}, {"name": "max", "size": 4, "reason": "not limiting"}], "wanted": 4, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 4, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [], "why_not_more": ["no more are wanted: preserve_n is 4"], "why_not_fewer": ["all that are left are wanted: preserve_n is 4"]}');
INSERT INTO "decisions" VALUES(10,'pool',1000046.0,'{"pool": "pool", "time": 1000046.0, "based_on": 22, "sentence": "drained 1: 4 of 3 wanted, preserve_n is 3, 4 usable or on the way", "state": "PENDING", "reason": "4 running and 0 pending of 3 wanted; preserve_n is 3, 4 usable or on the way", "engine": "n_preserving", "inputs": {"counts": {"supply": 4, "running": 4, "pending": 0, "draining": 0, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 4}, "readings": {}, "unhealthy": {}, "previous_size": 4}, "wish": {"size": 3, "reason": "preserve_n is 3, 4 usable or on the way", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 3, "reason": "not limiting"}, {"name": "min", "size": 3, "reason": "not limiting"}, {"name": "max", "size": 3, "reason": "not limiting"}], "wanted": 3, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 4, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [{"command": "DrainInstance", "node_id": "pool-0003-1", "reason": "preserve_n is 3, 4 usable or on the way"}], "why_not_more": ["no more are wanted: preserve_n is 3, 4 usable or on the way"], "why_not_fewer": ["all that are left are wanted: preserve_n is 3, 4 usable or on the way"]}');
INSERT INTO "decisions" VALUES(11,'pool',1000047.0,'{"pool": "pool", "time": 1000047.0, "based_on": 23, "sentence": "no action: 3 of 3 wanted, preserve_n is 3", "state": "PENDING", "reason": "as wanted since this cycle; preserve_n is 3", "engine": "n_preserving", "inputs": {"counts": {"supply": 3, "running": 3, "pending": 0, "draining": 1, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 4}, "readings": {}, "unhealthy": {}, "previous_size": 3}, "wish": {"size": 3, "reason": "preserve_n is 3", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 3, "reason": "not limiting"}, {"name": "min", "size": 3, "reason": "not limiting"}, {"name": "max", "size": 3, "reason": "not limiting"}], "wanted": 3, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 4, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [], "why_not_more": ["no more are wanted: preserve_n is 3"], "why_not_fewer": ["all that are left are wanted: preserve_n is 3"]}');
INSERT INTO "decisions" VALUES(12,'pool',1000048.0,'{"pool": "pool", "time": 1000048.0, "based_on": 23, "sentence": "no action: 3 of 3 wanted, preserve_n is 3", "state": "STABLE", "reason": "preserve_n is 3", "engine": "n_preserving", "inputs": {"counts": {"supply": 3, "running": 3, "pending": 0, "draining": 1, "terminating": 0, "unhealthy": 0, "boot_failed": 0, "zombies": 0, "machines": 4}, "readings": {}, "unhealthy": {}, "previous_size": 3}, "wish": {"size": 3, "reason": "preserve_n is 3", "held": false, "unique_ids": []}, "bounds": [{"name": "hold", "size": 3, "reason": "not limiting"}, {"name": "min", "size": 3, "reason": "not limiting"}, {"name": "max", "size": 3, "reason": "not limiting"}], "wanted": 3, "brake": {"level": "NORMAL", "unhealthy": 0, "total": 4, "share": 0.0, "allowance": 1, "reason": "nobody is unhealthy"}, "backoff": {"seconds_left": 0.0, "failures": 0, "until": 0.0, "last": ""}, "commands": [], "why_not_more": ["no more are wanted: preserve_n is 3"], "why_not_fewer": ["all that are left are wanted: preserve_n is 3"]}');
CREATE TABLE enrolments (
	node_id VARCHAR(80) NOT NULL, 
	nonce_hash VARCHAR(64) NOT NULL, 
	enrolled_at FLOAT NOT NULL, 
	answered INTEGER NOT NULL, 
	account_removed_at FLOAT, 
	PRIMARY KEY (node_id)
);
CREATE TABLE events (
	sequence INTEGER NOT NULL, 
	time FLOAT NOT NULL, 
	source VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	actor VARCHAR(64) NOT NULL, 
	run VARCHAR(64) NOT NULL, 
	pool VARCHAR(64) NOT NULL, 
	node VARCHAR(80) NOT NULL, 
	reason TEXT NOT NULL, 
	extra JSON NOT NULL, 
	PRIMARY KEY (sequence)
);
INSERT INTO "events" VALUES(1,1000000.0,'controller','pool_added','controller','run','pool','','engine n_preserving','{}');
INSERT INTO "events" VALUES(2,1000001.0,'controller','decision','controller','run','pool','','preserve_n is 2, 0 usable or on the way','{"size": 2, "was": null, "supply": 0}');
INSERT INTO "events" VALUES(3,1000001.0,'controller','pool_state','controller','run','pool','','0 running and 0 pending of 2 wanted; preserve_n is 2, 0 usable or on the way','{"state": "PENDING"}');
INSERT INTO "events" VALUES(4,1000007.0,'controller','pool_state','controller','run','pool','','preserve_n is 2','{"state": "STABLE"}');
INSERT INTO "events" VALUES(5,1000025.0,'controller','pool_reconfigured','controller','run','pool','','engine.preserve_n','{"changes": {"engine.preserve_n": 4}}');
INSERT INTO "events" VALUES(6,1000026.0,'controller','decision','controller','run','pool','','preserve_n is 4, 2 usable or on the way','{"size": 4, "was": 2, "supply": 2}');
INSERT INTO "events" VALUES(7,1000026.0,'controller','pool_state','controller','run','pool','','2 running and 0 pending of 4 wanted; preserve_n is 4, 2 usable or on the way','{"state": "PENDING"}');
INSERT INTO "events" VALUES(8,1000033.0,'controller','pool_state','controller','run','pool','','preserve_n is 4','{"state": "STABLE"}');
INSERT INTO "events" VALUES(9,1000045.0,'controller','pool_reconfigured','controller','run','pool','','engine.preserve_n','{"changes": {"engine.preserve_n": 3}}');
INSERT INTO "events" VALUES(10,1000046.0,'controller','decision','controller','run','pool','','preserve_n is 3, 4 usable or on the way','{"size": 3, "was": 4, "supply": 4}');
INSERT INTO "events" VALUES(11,1000046.0,'controller','pool_state','controller','run','pool','','4 running and 0 pending of 3 wanted; preserve_n is 3, 4 usable or on the way','{"state": "PENDING"}');
INSERT INTO "events" VALUES(12,1000048.0,'controller','pool_state','controller','run','pool','','preserve_n is 3','{"state": "STABLE"}');
CREATE TABLE flags (
	"key" VARCHAR(64) NOT NULL, 
	value JSON, 
	PRIMARY KEY ("key")
);
CREATE TABLE instances (
	node_id VARCHAR(80) NOT NULL, 
	launch_id VARCHAR(72) NOT NULL, 
	index_in_launch INTEGER NOT NULL, 
	pool VARCHAR(64) NOT NULL, 
	cloud VARCHAR(64) NOT NULL, 
	template VARCHAR(128) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	actor VARCHAR(64) NOT NULL, 
	wanted_at FLOAT NOT NULL, 
	state_since FLOAT NOT NULL, 
	changed_in INTEGER NOT NULL, 
	cloud_id VARCHAR(255), 
	addresses JSON NOT NULL, 
	price FLOAT, 
	unique_id VARCHAR(128), 
	variables JSON NOT NULL, 
	outputs JSON NOT NULL, 
	role JSON NOT NULL, 
	boot_timeout FLOAT NOT NULL, 
	launch_timeout FLOAT NOT NULL, 
	boot_deadline FLOAT, 
	launch_deadline FLOAT, 
	drain_deadline FLOAT, 
	next_attempt_at FLOAT, 
	attempts INTEGER NOT NULL, 
	first_listed_at FLOAT, 
	last_listed_at FLOAT, 
	enrolled_at FLOAT, 
	presence_lost_at FLOAT, 
	terminate_called_at FLOAT, 
	protected BOOLEAN NOT NULL, 
	retryable BOOLEAN NOT NULL, 
	PRIMARY KEY (node_id)
);
CREATE TABLE launches (
	launch_id VARCHAR(72) NOT NULL, 
	pool VARCHAR(64) NOT NULL, 
	cloud VARCHAR(64) NOT NULL, 
	count INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	token_expires_at FLOAT, 
	template VARCHAR(128) NOT NULL, 
	variables JSON NOT NULL, 
	settings JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	called_at FLOAT, 
	PRIMARY KEY (launch_id)
);
CREATE TABLE pending_batches (
	pool VARCHAR(64) NOT NULL, 
	batch_id VARCHAR(80) NOT NULL, 
	batch JSON NOT NULL, 
	stored_at FLOAT NOT NULL, 
	PRIMARY KEY (pool)
);
CREATE TABLE pool_versions (
	pool VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	PRIMARY KEY (pool)
);
CREATE TABLE pools (
	name VARCHAR(64) NOT NULL, 
	section JSON NOT NULL, 
	revision INTEGER NOT NULL, 
	added_at FLOAT NOT NULL, 
	memory JSON NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "pools" VALUES('pool','{"programs": {"worker": {"command": ["work"]}}, "heartbeat_interval": 1, "engine": {"type": "n_preserving", "preserve_n": 3}, "health": {"missing_timeout": 10, "really_missing_timeout": 5}, "variables": {"colour": "blue"}, "work_queues": ["jobs"], "drain_timeout": 86400}',3,1000000.0,'{"began": 1000001.0, "wanted": 3, "reason": "preserve_n is 3", "engine": "n_preserving", "engine_memory": {}, "health": {"pool-0003-1": {"status": "OK", "since": 1000006.0, "heard": true, "exited": ""}, "pool-0005-0": {"status": "OK", "since": 1000031.0, "heard": true, "exited": ""}, "pool-0005-1": {"status": "OK", "since": 1000031.0, "heard": true, "exited": ""}, "pool-0007-0": {"status": "OK", "since": 1000032.0, "heard": true, "exited": ""}}, "unhealthy": {}, "condemned": [], "replacements": {}, "backoff": {"failures": 0, "waves": 0, "until": 0.0, "last_failure": 0.0, "wave_until": 0.0, "reason": ""}, "counted": [], "pending": [], "zombies": {}, "rogues": [], "brake": "NORMAL", "meltdown_since": null, "braked": [], "ready_once": true, "calm": true, "state": "STABLE", "said": {"decision": "3", "pool_state": "STABLE"}}');
CREATE TABLE transitions (
	id INTEGER NOT NULL, 
	node_id VARCHAR(80) NOT NULL, 
	from_state VARCHAR(16), 
	to_state VARCHAR(16) NOT NULL, 
	at FLOAT NOT NULL, 
	actor VARCHAR(64) NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_batches_at ON batches (at);
CREATE INDEX ix_decisions_pool_at ON decisions (pool, at);
CREATE INDEX ix_events_time ON events (time);
CREATE INDEX ix_instances_launch_id ON instances (launch_id);
CREATE INDEX ix_instances_pool_changed ON instances (pool, changed_in);
CREATE INDEX ix_instances_state ON instances (state);
CREATE INDEX ix_transitions_node_id ON transitions (node_id);
COMMIT;
