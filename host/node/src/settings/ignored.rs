//! Keys of RocketMQ that have no effect here, and why. A file that has them is read, and says so.

use crate::config::Roles;

/// Keys that are ignored for one reason.
pub(super) struct Ignored {
    pub(super) of: Roles,
    pub(super) reason: &'static str,
    /// Separated by white space.
    pub(super) keys: &'static str,
}

/// Why a key of this role has no effect, if that is so.
pub(super) fn reason(of: Roles, key: &str) -> Option<&'static str> {
    let mut all = IGNORED.iter().filter(|it| it.of.overlap(of));
    let row = all.find(|it| it.keys.split_whitespace().any(|name| name == key));
    row.map(|it| it.reason)
}

/// All names.
pub(super) fn names(of: Roles) -> impl Iterator<Item = &'static str> {
    let all = IGNORED.iter().filter(move |it| it.of.overlap(of));
    all.flat_map(|it| it.keys.split_whitespace())
}

const fn both(reason: &'static str, keys: &'static str) -> Ignored {
    Ignored {
        of: Roles::Both,
        reason,
        keys,
    }
}

const fn broker(reason: &'static str, keys: &'static str) -> Ignored {
    Ignored {
        of: Roles::Broker,
        reason,
        keys,
    }
}

const fn name_server(reason: &'static str, keys: &'static str) -> Ignored {
    Ignored {
        of: Roles::NameServer,
        reason,
        keys,
    }
}

pub(super) const IGNORED: &[Ignored] = &[
    both("one binary, nothing is installed around it", "rocketmqHome"),
    both(
        "threads follow the number of cores",
        "serverCallbackExecutorThreads serverSelectorThreads serverWorkerThreads \
         useEpollNativeSelector serverNettyWorkerGroupEnable",
    ),
    both(
        "each connection may have 32 streams open, each with 1,024 requests under way",
        "serverAsyncSemaphoreValue serverOnewaySemaphoreValue serverOneWaySemaphoreValue \
         serverSocketBacklog",
    ),
    both(
        "QUIC finds by itself that a peer is gone: clients of a broker after 15 s, of a name server after 90 s, nodes after 5 s",
        "serverChannelMaxIdleTimeSeconds",
    ),
    both(
        "each UDP socket asks for 4 MiB in each direction",
        "serverSocketSndBufSize serverSocketRcvBufSize writeBufferHighWaterMark \
         writeBufferLowWaterMark",
    ),
    both(
        "there is no Netty inside",
        "serverPooledByteBufAllocatorEnable",
    ),
    both(
        "a stop always drains and says goodbye",
        "enableShutdownGracefully shutdownWaitTimeSeconds",
    ),
    both(
        "settings are not changed over the network",
        "configBlackList configStorePath configManagerVersion brokerConfigPath",
    ),
    name_server(
        "a test switch of RocketMQ's own; routes are answered from the table, always",
        "clusterTest productEnvName",
    ),
    name_server(
        "a name server keeps nothing on disk",
        "kvConfigPath orderMessageEnable returnOrderTopicConfigToBroker",
    ),
    name_server(
        "requests are answered in memory; nothing waits in pools or queues",
        "clientRequestThreadPoolNums clientRequestThreadPoolQueueCapacity defaultThreadPoolNums \
         defaultThreadPoolQueueCapacity unRegisterBrokerQueueCapacity",
    ),
    name_server(
        "a broker that stays silent is forgotten after 10 s",
        "scanNotActiveBrokerInterval",
    ),
    name_server(
        "brokers tell of deleted topics, and anyone may ask for what there is",
        "deleteTopicWithBrokerRegistration enableAllTopicList enableTopicList",
    ),
    name_server(
        "clients ask again until brokers have registered",
        "needWaitForService waitSecondsForService",
    ),
    name_server(
        "there are no replicas yet",
        "supportActingMaster notifyMinBrokerIdChanged enableControllerInNamesrv",
    ),
    broker(
        "there are no replicas yet",
        "slaveReadEnable haListenPort haSendHeartbeatInterval haHousekeepingInterval \
         haTransferBatchSize haMasterAddress haMaxGapNotInSync haMaxTimeSlaveNotCatchup \
         haFlowControlEnable maxHaTransferByteInSecond slaveTimeout offsetCheckInSlave \
         enableSlaveActingMaster enableRemoteEscape skipPreOnline syncFromLastFile asyncLearner \
         allAckInSyncStateSet enableAutoInSyncReplicas maxSlaveResendLength \
         syncMasterFlushOffsetWhenStartup syncBrokerMetadataPeriod syncBrokerMemberGroupPeriod \
         syncControllerMetadataPeriod checkSyncStateSetPeriod controllerAddr \
         controllerHeartBeatTimeoutMills fetchControllerAddrByDnsLookup brokerElectionPriority \
         brokerIP2 compatibleWithOldNameSrv inBrokerContainer storePathEpochFile \
         storePathBrokerIdentity storePathDLedgerCommitLog preferredLeaderId \
         brokerNotActiveTimeoutMillis lockInStrictMode",
    ),
    broker(
        "topics are made when somebody asks for them: quern topic create NAME",
        "brokerTopicEnable clusterTopicEnable enableCreateSysGroup traceTopicEnable \
         validateSystemTopicWhenUpdateTopic clearRetryTopicWhenDeleteTopic",
    ),
    broker(
        "requests are tasks, not threads; what waits is bounded by bytes",
        "sendMessageThreadPoolNums putMessageFutureThreadPoolNums pullMessageThreadPoolNums \
         litePullMessageThreadPoolNums ackMessageThreadPoolNums processReplyMessageThreadPoolNums \
         queryMessageThreadPoolNums adminBrokerThreadPoolNums clientManageThreadPoolNums \
         consumerManageThreadPoolNums loadBalanceProcessorThreadPoolNums heartbeatThreadPoolNums \
         recoverThreadPoolNums endTransactionThreadPoolNums sendThreadPoolQueueCapacity \
         putThreadPoolQueueCapacity pullThreadPoolQueueCapacity litePullThreadPoolQueueCapacity \
         ackThreadPoolQueueCapacity replyThreadPoolQueueCapacity queryThreadPoolQueueCapacity \
         clientManagerThreadPoolQueueCapacity consumerManagerThreadPoolQueueCapacity \
         heartbeatThreadPoolQueueCapacity endTransactionPoolQueueCapacity \
         adminBrokerThreadPoolQueueCapacity loadBalanceThreadPoolQueueCapacity \
         maxAsyncPutMessageRequests asyncSendEnable enableFastChannelEventProcess forwardTimeout \
         topicQueueLockNum useReentrantLockWhenPutMessage useABSLock \
         spinLockCollisionRetreatOptimalDegree putMessageTimeout",
    ),
    broker(
        "a full log makes senders wait instead of refusing them; deadlines are the senders' own",
        "brokerFastFailureEnable waitTimeMillsInSendQueue waitTimeMillsInPullQueue \
         waitTimeMillsInLitePullQueue waitTimeMillsInHeartbeatQueue \
         waitTimeMillsInTransactionQueue waitTimeMillsInAckQueue \
         waitTimeMillsInAdminBrokerQueue osPageCacheBusyTimeOutMills \
         startAcceptSendRequestTimeStamp disappearTimeAfterStart enableNetWorkFlowControl",
    ),
    broker(
        "name servers are told of changes at once, and of life every second",
        "registerNameServerPeriod registerBrokerTimeoutMills forceRegister compressedRegister \
         enableSingleTopicRegister enableSplitRegistration splitRegistrationSize \
         enableSplitMetadata splitMetadataSize brokerHeartbeatInterval sendHeartbeatTimeoutMillis \
         cleanOfflineBrokerInterval updateNameServerAddrPeriod loadBalancePollNameServerInterval",
    ),
    broker(
        "name servers are given by their addresses",
        "fetchNamesrvAddrByAddressServer fetchNameSrvAddrByDnsLookup fetchNamesrvAddrInterval",
    ),
    broker(
        "there is one listener; streams do not wait for each other",
        "fastListenPort",
    ),
    broker(
        "this side of the connections is the clients' in RocketMQ; its time-outs are constants here",
        "clientWorkerThreads clientCallbackExecutorThreads clientOnewaySemaphoreValue \
         clientAsyncSemaphoreValue connectTimeoutMillis channelNotActiveInterval \
         clientChannelMaxIdleTimeSeconds clientSocketSndBufSize clientSocketRcvBufSize \
         clientPooledByteBufAllocatorEnable clientCloseSocketIfTimeout disableCallbackExecutor \
         disableNettyWorkerGroup enableReconnectForGoAway maxReconnectIntervalTimeSeconds \
         scanAvailableNameSrv socksProxyConfig channelExpiredTimeout",
    ),
    broker("connections are always encrypted", "useTLS"),
    broker(
        "segments have a size that fits the disk: segmentSize",
        "mappedFileSizeCommitLog mappedFileSizeConsumeQueue mappedFileSizeConsumeQueueExt \
         mapperFileSizeBatchConsumeQueue mappedFileSizeTimerLog",
    ),
    broker(
        "the checkpoint and the lock lie in the data directory",
        "storeCheckpoint abortFile",
    ),
    broker(
        "the sync of a group follows its write at once; there are no intervals and pages to choose",
        "flushIntervalCommitLog commitIntervalCommitLog flushCommitLogTimed \
         flushCommitLogLeastPages commitCommitLogLeastPages flushCommitLogThoroughInterval \
         commitCommitLogThoroughInterval flushIntervalConsumeQueue flushConsumeQueueLeastPages \
         flushConsumeQueueThoroughInterval flushDelayOffsetInterval flushConsumerOffsetInterval \
         flushConsumerOffsetHistoryInterval wakeCommitWhenPutMessage wakeFlushWhenPutMessage \
         consumerOffsetUpdateVersionStep delayOffsetUpdateVersionStep enableRunningFlagsInFlush",
    ),
    broker(
        "segments and queues are laid out and warmed by the store itself",
        "transientStorePoolEnable transientStorePoolSize fastFailIfNoBufferInStorePool \
         warmMapedFileEnable flushLeastPagesWhenWarmMapedFile writeWithoutMmap \
         mappedFileSwapEnable commitLogForceSwapMapInterval commitLogSwapMapInterval \
         commitLogSwapMapReserveFileNum logicQueueForceSwapMapInterval \
         logicQueueSwapMapInterval logicQueueSwapMapReserveFileNum cleanSwapedMapInterval \
         putConsumeQueueDataByFileChannel readUnCommitted duplicationEnable debugLockEnable \
         enableConsumeQueueExt bitMapLengthConsumeQueueExt messageIndexEnable messageIndexSafe \
         maxHashSlotNum maxIndexNum putMsgIndexHightWater searchBcqByCacheEnable \
         dispatchFromSenderThread dispatchCqThreads dispatchCqCacheNum enableAsyncReput \
         recheckReputOffsetFromCq enableBuildConsumeQueueConcurrently \
         batchDispatchRequestThreadPoolNums autoMessageVersionOnTopicLen maxTopicLength \
         travelCqFileNumWhenGetMessage maxConsumeQueueScan sampleSteps sampleCountThreshold \
         enabledAppendPropCRC forceVerifyPropCRC maxChecksumRange",
    ),
    broker(
        "a start verifies what a checkpoint does not cover, always",
        "checkCRCOnRecover enableAcceleratedRecovery recoverConcurrently \
         enableLogConsumeQueueRepeatedlyBuildWhenRecover maxRecoveryCommitlogFiles",
    ),
    broker(
        "expired segments go oldest first; thresholds of the disk are 75, 85 and 90 % with a bound in bytes",
        "diskMaxUsedSpaceRatio diskSpaceWarningLevelRatio diskSpaceCleanForciblyRatio \
         logicalDiskSpaceCleanForciblyThreshold cleanFileForciblyEnable cleanResourceInterval \
         deleteCommitLogFilesInterval deleteConsumeQueueFilesInterval \
         destroyMapedFileIntervalForcibly redeleteHangedFileInterval deleteFileBatchMax \
         maxBatchDeleteFilesNum correctLogicMinOffsetForceInterval \
         correctLogicMinOffsetSleepInterval enableCleanExpiredOffset",
    ),
    broker(
        "a broker has one log directory",
        "readOnlyCommitLogStorePaths replicasPerDiskPartition",
    ),
    broker(
        "how much a pull brings is the consumer's to say, up to 4,096 messages and 4 MiB",
        "maxTransferBytesOnMessageInMemory maxTransferCountOnMessageInMemory \
         maxTransferBytesOnMessageInDisk maxTransferCountOnMessageInDisk \
         pullBatchMaxMessageCount maxFilterMessageSize maxMsgsNumBatch transferMsgByHeap \
         defaultQueryMaxNum",
    ),
    broker(
        "consumers that lag have threads and shares of their own",
        "accessMessageInMemoryMaxRatio accessMessageInMemoryHotRatio diskFallRecorded \
         disableConsumeIfConsumerReadSlowly consumerFallbehindThreshold coldDataFlowControlEnable \
         coldDataScanEnable timerColdDataCheckIntervalMs coldCtrStrategyEnable \
         usePIDColdCtrStrategy cgColdReadThreshold globalColdReadThreshold dataReadAheadEnable",
    ),
    broker(
        "pulls wait for messages and are woken by them, always",
        "longPollingEnable shortPollingTimeMills notifyConsumerIdsChangedEnable \
         realTimeNotifyConsumerChange rejectPullConsumerEnable litePullMessageEnable \
         highSpeedMode subscriptionExpiredTimeout",
    ),
    broker(
        "filters are components, always there, checked before they run",
        "enablePropertyFilter enableCalcFilterBitMap expectConsumerNumUseFilter \
         maxErrorRateOfBloomFilter filterDataCleanTimeSpan filterSupportRetry filterServerNums",
    ),
    broker(
        "offsets are records of the log; a reset is done by the broker, always",
        "useServerSideResetOffset enableBroadcastOffsetStore broadcastOffsetExpireSecond \
         broadcastOffsetExpireMaxSecond useStaticSubscription serverLoadBalancerEnable \
         defaultMessageRequestMode defaultPopShareQueueNum enableRegisterProducer \
         printChannelGroups printChannelGroupsMinNum",
    ),
    broker(
        "the timer is a part of the log",
        "timerWheelEnable timerPrecisionMs timerRollWindowSlot \
         timerFlushIntervalMs timerGetMessageThreadNum timerPutMessageThreadNum \
         timerEnableCheckMetrics timerInterceptDelayLevel \
         timerCongestNumEachSlot timerMetricSmallThreshold timerProgressLogIntervalMs \
         timerStopEnqueue timerSkipUnknownError timerEnableRetryUntilSuccess \
         enableScheduleMessageStats enableScheduleAsyncDeliver scheduleAsyncDeliverMaxPendingLimit \
         scheduleAsyncDeliverMaxResendNum2Blocked recallMessageEnable \
         allowRecallWhenBrokerNotWriteable",
    ),
    broker(
        "a topic's type says whether it takes transactions; a committed message is its own mark",
        "rejectTransactionMessage transactionOpMsgMaxSize transactionOpBatchInterval transactionMetricFlushInterval \
         enableTransactionMetrics",
    ),
    broker(
        "pop has no such settings here",
        "popPollingSize popPollingMapSize maxPopPollingSize popPollingMapExpireTimeSeconds \
         reviveQueueNum reviveInterval reviveMaxSlow reviveScanTime reviveAckWaitMs \
         enablePopLog enablePopBufferMerge popCkStayBufferTime popCkStayBufferTimeOut \
         popCkMaxBufferSize popCkOffsetMaxQueueSize enablePopBatchAck enablePopMessageThreshold \
         popInflightMessageThreshold popLongPollingForceNotifyInterval \
         enableNotifyBeforePopCalculateLag enableNotifyAfterPopOrderLockRelease \
         initPopOffsetByCheckMsgInMem retrieveMessageFromPopRetryTopicV1 enableRetryTopicV2 \
         popFromRetryProbability popReviveMaxAttemptTimes popReviveMaxReturnSizePerRead \
         popResponseReturnActualRetryTopic popConsumerFSServiceInit popConsumerKVServiceEnable \
         popConsumerKVServiceInit popConsumerKVServiceLog appendAckAsync appendCkAsync \
         enableSkipLongAwaitingAck skipWhenCKRePutReachMaxTimes",
    ),
    broker(
        "there is no RocksDB inside",
        "storeType enableRocksDBLog rocksdbCQDoubleWriteEnable rocksdbCompressionType \
         rocksdbFlushWalFrequency rocksdbWalFileRollingThreshold realTimePersistRocksDBConfig \
         cleanRocksDBDirtyCQIntervalMin statRocksDBCQIntervalSec memTableFlushIntervalMs \
         bottomMostCompressionTypeForConsumeQueueStore combineAssignOffsetCQType \
         combineCQEnableCheckSelf combineCQLoadingCQTypes combineCQMaxExtraSearchCommitLogFiles \
         combineCQPreferCQType",
    ),
    broker(
        "queues are of one kind; messages are in one queue each",
        "enableLmq enableLmqStats enableMultiDispatch maxLmqConsumeQueueNum enableBatchPush \
         enableMixedMessageType",
    ),
    broker(
        "topics are compacted that say so (quern topic create --cleanup compact), in the one log, when its segments go",
        "enableCompaction compactionMappedFileSize compactionCqMappedFileSize compactionScheduleInternal \
         compactionThreadNum maxOffsetMapSize",
    ),
    broker(
        "metrics and statistics have no settings here",
        "metricsExporterType metricsGrpcExporterTarget metricsGrpcExporterHeader \
         metricGrpcExporterTimeOutInMills metricGrpcExporterIntervalInMills \
         metricLoggingExporterIntervalInMills metricsPromExporterPort metricsPromExporterHost \
         metricsLabel metricsInDelta metricsOtelCardinalityLimit estimateAccumulation \
         accountStatsEnable accountStatsPrintZeroValues autoDeleteUnusedStats \
         maxStatsIdleTimeInMinutes enableDetailStat enableConnectionMetrics enableLagAndDlqMetrics \
         enableMessageStoreMetrics enablePopMetrics enableRemotingMetrics enableRequestMetrics \
         enableStatsMetrics commercialBaseCount commercialSizePerMsg isolateLogEnable regionId \
         traceOn msgTraceTopicName storeReplyMessageEnable",
    ),
    broker("there are no Java classes to load", "messageStorePlugIn"),
    broker(
        "there is no access control yet, so nothing of it to set; what would turn it on is refused",
        "authConfigPath aclCacheExpiredSecond aclCacheMaxNum aclCacheRefreshSecond \
         authenticationMetadataProvider authenticationProvider authenticationStrategy \
         authenticationWhitelist authorizationMetadataProvider authorizationProvider \
         authorizationStrategy authorizationWhitelist initAuthenticationUser \
         innerClientAuthenticationCredentials migrateAuthFromV1Enabled \
         statefulAuthenticationCacheExpiredSecond statefulAuthenticationCacheMaxNum \
         statefulAuthorizationCacheExpiredSecond statefulAuthorizationCacheMaxNum \
         userCacheExpiredSecond userCacheMaxNum userCacheRefreshSecond",
    ),
    broker(
        "there is no tiered storage",
        "tieredStorageLevel tieredStoreFilePath tieredStoreFileReservedTime \
         tieredBackendServiceProvider tieredMetadataServiceProvider",
    ),
];
