# cmake -DSOURCE_DIR= -DFAULT_BUILD_DIR= ... -P build-faults.cmake
# Builds the programs with failpoints in a tree of their own, for the tests that let them fail.
execute_process(
  COMMAND ${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${FAULT_BUILD_DIR} -G ${GENERATOR} -DTESTS=OFF
          -DFAILPOINTS=ON -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=${COMPILER}
          -DSANITIZE=${SANITIZE}
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${FAULT_BUILD_DIR} -j 2 COMMAND_ERROR_IS_FATAL ANY)
