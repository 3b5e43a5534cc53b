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
INSERT INTO "batches" VALUES('pool-batch-0002','pool','applied','',1000001.0);
INSERT INTO "batches" VALUES('pool-batch-0004','pool','applied','',1000026.0);
INSERT INTO "batches" VALUES('pool-batch-0006','pool','applied','',1000027.0);
INSERT INTO "batches" VALUES('pool-batch-0008','pool','applied','',1000046.0);
CREATE TABLE decisions (
	id INTEGER NOT NULL, 
	pool VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	explanation JSON NOT NULL, 
	PRIMARY KEY (id)
);
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
INSERT INTO "events" VALUES(1,1000001.0,'provisioner','new_launch','controller (epoch 1)','run','pool','','preserve_n is 2, 0 usable or on the way','{"cloud": "here", "launch_id": "pool-0003", "count": 2}');
INSERT INTO "events" VALUES(2,1000006.0,'provisioner','new_node','registrar','run','pool','pool-0003-0','its agent enrolled','{"cloud": "here", "launch_id": "pool-0003"}');
INSERT INTO "events" VALUES(3,1000006.0,'provisioner','node_ready','registrar','run','pool','pool-0003-0','verified itself','{"cloud": "here", "launch_id": "pool-0003"}');
INSERT INTO "events" VALUES(4,1000006.0,'provisioner','new_node','registrar','run','pool','pool-0003-1','its agent enrolled','{"cloud": "here", "launch_id": "pool-0003"}');
INSERT INTO "events" VALUES(5,1000006.0,'provisioner','node_ready','registrar','run','pool','pool-0003-1','verified itself','{"cloud": "here", "launch_id": "pool-0003"}');
INSERT INTO "events" VALUES(6,1000026.0,'provisioner','new_launch','controller (epoch 1)','run','pool','','preserve_n is 4, 2 usable or on the way','{"cloud": "here", "launch_id": "pool-0005", "count": 2}');
INSERT INTO "events" VALUES(7,1000027.0,'provisioner','node_terminated','provisioner','run','pool','pool-0003-0','vanished: the cloud lists it no more','{"cloud": "here", "launch_id": "pool-0003", "cloud_id": "m-000001"}');
INSERT INTO "events" VALUES(8,1000027.0,'provisioner','new_launch','controller (epoch 1)','run','pool','','preserve_n is 4, 3 usable or on the way','{"cloud": "here", "launch_id": "pool-0007", "count": 1}');
INSERT INTO "events" VALUES(9,1000031.0,'provisioner','new_node','registrar','run','pool','pool-0005-0','its agent enrolled','{"cloud": "here", "launch_id": "pool-0005"}');
INSERT INTO "events" VALUES(10,1000031.0,'provisioner','node_ready','registrar','run','pool','pool-0005-0','verified itself','{"cloud": "here", "launch_id": "pool-0005"}');
INSERT INTO "events" VALUES(11,1000031.0,'provisioner','new_node','registrar','run','pool','pool-0005-1','its agent enrolled','{"cloud": "here", "launch_id": "pool-0005"}');
INSERT INTO "events" VALUES(12,1000031.0,'provisioner','node_ready','registrar','run','pool','pool-0005-1','verified itself','{"cloud": "here", "launch_id": "pool-0005"}');
INSERT INTO "events" VALUES(13,1000032.0,'provisioner','new_node','registrar','run','pool','pool-0007-0','its agent enrolled','{"cloud": "here", "launch_id": "pool-0007"}');
INSERT INTO "events" VALUES(14,1000032.0,'provisioner','node_ready','registrar','run','pool','pool-0007-0','verified itself','{"cloud": "here", "launch_id": "pool-0007"}');
INSERT INTO "events" VALUES(15,1000046.0,'provisioner','drain_started','controller (epoch 1)','run','pool','pool-0003-1','preserve_n is 3, 4 usable or on the way','{"cloud": "here", "launch_id": "pool-0003", "cloud_id": "m-000002"}');
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
INSERT INTO "instances" VALUES('pool-0003-0','pool-0003',0,'pool','here','worker','TERMINATED','vanished: the cloud lists it no more','provisioner',1000001.0,1000027.0,10,'m-000001','["10.0.0.1"]',NULL,NULL,'{"colour": "blue"}','{}','{"programs": {"worker": {"command": ["work"], "environment": {}, "worker": true, "directory": null, "start_seconds": 1.0, "copies": 1}}, "checks": [], "outputs": {}, "work_queues": ["jobs"], "busy_file": null, "heartbeat_interval": 1.0, "drain_timeout": 86400.0}',300.0,300.0,1000306.0,1000302.0,NULL,NULL,1,1000007.0,NULL,1000006.0,NULL,1000027.0,0,0);
INSERT INTO "instances" VALUES('pool-0003-1','pool-0003',1,'pool','here','worker','DRAINING','preserve_n is 3, 4 usable or on the way','controller (epoch 1)',1000001.0,1000046.0,23,'m-000002','["10.0.0.2"]',NULL,NULL,'{"colour": "blue"}','{}','{"programs": {"worker": {"command": ["work"], "environment": {}, "worker": true, "directory": null, "start_seconds": 1.0, "copies": 1}}, "checks": [], "outputs": {}, "work_queues": ["jobs"], "busy_file": null, "heartbeat_interval": 1.0, "drain_timeout": 86400.0}',300.0,300.0,1000306.0,1000302.0,1086446.0,NULL,0,1000007.0,NULL,1000006.0,NULL,NULL,0,0);
INSERT INTO "instances" VALUES('pool-0005-0','pool-0005',0,'pool','here','worker','RUNNING','verified itself','registrar',1000026.0,1000031.0,22,'m-000003','["10.0.0.3"]',NULL,NULL,'{"colour": "blue"}','{}','{"programs": {"worker": {"command": ["work"], "environment": {}, "worker": true, "directory": null, "start_seconds": 1.0, "copies": 1}}, "checks": [], "outputs": {}, "work_queues": ["jobs"], "busy_file": null, "heartbeat_interval": 1.0, "drain_timeout": 86400.0}',300.0,300.0,1000331.0,1000327.0,NULL,NULL,0,1000033.0,NULL,1000031.0,NULL,NULL,0,0);
INSERT INTO "instances" VALUES('pool-0005-1','pool-0005',1,'pool','here','worker','RUNNING','verified itself','registrar',1000026.0,1000031.0,22,'m-000004','["10.0.0.4"]',NULL,NULL,'{"colour": "blue"}','{}','{"programs": {"worker": {"command": ["work"], "environment": {}, "worker": true, "directory": null, "start_seconds": 1.0, "copies": 1}}, "checks": [], "outputs": {}, "work_queues": ["jobs"], "busy_file": null, "heartbeat_interval": 1.0, "drain_timeout": 86400.0}',300.0,300.0,1000331.0,1000327.0,NULL,NULL,0,1000033.0,NULL,1000031.0,NULL,NULL,0,0);
INSERT INTO "instances" VALUES('pool-0007-0','pool-0007',0,'pool','here','worker','RUNNING','verified itself','registrar',1000027.0,1000032.0,22,'m-000005','["10.0.0.5"]',NULL,NULL,'{"colour": "blue"}','{}','{"programs": {"worker": {"command": ["work"], "environment": {}, "worker": true, "directory": null, "start_seconds": 1.0, "copies": 1}}, "checks": [], "outputs": {}, "work_queues": ["jobs"], "busy_file": null, "heartbeat_interval": 1.0, "drain_timeout": 86400.0}',300.0,300.0,1000332.0,1000328.0,NULL,NULL,0,1000033.0,NULL,1000032.0,NULL,NULL,0,0);
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
INSERT INTO "launches" VALUES('pool-0003','pool','here',2,1,1001202.0,'worker','{"colour": "blue"}','{}',1000001.0,1000002.0);
INSERT INTO "launches" VALUES('pool-0005','pool','here',2,1,1001227.0,'worker','{"colour": "blue"}','{}',1000026.0,1000027.0);
INSERT INTO "launches" VALUES('pool-0007','pool','here',1,1,1001228.0,'worker','{"colour": "blue"}','{}',1000027.0,1000028.0);
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
INSERT INTO "pool_versions" VALUES('pool',23,1,'controller-0001');
CREATE TABLE pools (
	name VARCHAR(64) NOT NULL, 
	section JSON NOT NULL, 
	revision INTEGER NOT NULL, 
	added_at FLOAT NOT NULL, 
	memory JSON NOT NULL, 
	PRIMARY KEY (name)
);
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
INSERT INTO "transitions" VALUES(1,'pool-0003-0',NULL,'REQUESTED',1000001.0,'controller (epoch 1)','preserve_n is 2, 0 usable or on the way');
INSERT INTO "transitions" VALUES(2,'pool-0003-1',NULL,'REQUESTED',1000001.0,'controller (epoch 1)','preserve_n is 2, 0 usable or on the way');
INSERT INTO "transitions" VALUES(3,'pool-0003-0','REQUESTED','LAUNCHING',1000002.0,'provisioner','asking the cloud');
INSERT INTO "transitions" VALUES(4,'pool-0003-1','REQUESTED','LAUNCHING',1000002.0,'provisioner','asking the cloud');
INSERT INTO "transitions" VALUES(5,'pool-0003-0','LAUNCHING','BOOTING',1000006.0,'registrar','its agent enrolled');
INSERT INTO "transitions" VALUES(6,'pool-0003-0','BOOTING','RUNNING',1000006.0,'registrar','verified itself');
INSERT INTO "transitions" VALUES(7,'pool-0003-1','LAUNCHING','BOOTING',1000006.0,'registrar','its agent enrolled');
INSERT INTO "transitions" VALUES(8,'pool-0003-1','BOOTING','RUNNING',1000006.0,'registrar','verified itself');
INSERT INTO "transitions" VALUES(9,'pool-0005-0',NULL,'REQUESTED',1000026.0,'controller (epoch 1)','preserve_n is 4, 2 usable or on the way');
INSERT INTO "transitions" VALUES(10,'pool-0005-1',NULL,'REQUESTED',1000026.0,'controller (epoch 1)','preserve_n is 4, 2 usable or on the way');
INSERT INTO "transitions" VALUES(11,'pool-0003-0','RUNNING','TERMINATED',1000027.0,'provisioner','vanished: the cloud lists it no more');
INSERT INTO "transitions" VALUES(12,'pool-0005-0','REQUESTED','LAUNCHING',1000027.0,'provisioner','asking the cloud');
INSERT INTO "transitions" VALUES(13,'pool-0005-1','REQUESTED','LAUNCHING',1000027.0,'provisioner','asking the cloud');
INSERT INTO "transitions" VALUES(14,'pool-0007-0',NULL,'REQUESTED',1000027.0,'controller (epoch 1)','preserve_n is 4, 3 usable or on the way');
INSERT INTO "transitions" VALUES(15,'pool-0007-0','REQUESTED','LAUNCHING',1000028.0,'provisioner','asking the cloud');
INSERT INTO "transitions" VALUES(16,'pool-0005-0','LAUNCHING','BOOTING',1000031.0,'registrar','its agent enrolled');
INSERT INTO "transitions" VALUES(17,'pool-0005-0','BOOTING','RUNNING',1000031.0,'registrar','verified itself');
INSERT INTO "transitions" VALUES(18,'pool-0005-1','LAUNCHING','BOOTING',1000031.0,'registrar','its agent enrolled');
INSERT INTO "transitions" VALUES(19,'pool-0005-1','BOOTING','RUNNING',1000031.0,'registrar','verified itself');
INSERT INTO "transitions" VALUES(20,'pool-0007-0','LAUNCHING','BOOTING',1000032.0,'registrar','its agent enrolled');
INSERT INTO "transitions" VALUES(21,'pool-0007-0','BOOTING','RUNNING',1000032.0,'registrar','verified itself');
INSERT INTO "transitions" VALUES(22,'pool-0003-1','RUNNING','DRAINING',1000046.0,'controller (epoch 1)','preserve_n is 3, 4 usable or on the way');
CREATE INDEX ix_batches_at ON batches (at);
CREATE INDEX ix_decisions_pool_at ON decisions (pool, at);
CREATE INDEX ix_events_time ON events (time);
CREATE INDEX ix_instances_launch_id ON instances (launch_id);
CREATE INDEX ix_instances_pool_changed ON instances (pool, changed_in);
CREATE INDEX ix_instances_state ON instances (state);
CREATE INDEX ix_transitions_node_id ON transitions (node_id);
COMMIT;
