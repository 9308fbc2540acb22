# One static library a folder. A folder's CMakeLists.txt calls vm_library(NAME [LINK ...]).
function(vm_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.c)
  if(NOT sources)
    add_library(vm_${name} INTERFACE)
    target_include_directories(vm_${name} INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
    target_link_libraries(vm_${name} INTERFACE ${ARG_LINK})
    return()
  endif()
  add_library(vm_${name} STATIC ${sources})
  target_include_directories(vm_${name} PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  target_link_libraries(vm_${name} PUBLIC ${ARG_LINK})
endfunction()

# A part that is loaded at its first use (dlopen): NAME.so beside the program or in the private
# library folder. It links the static libraries it needs itself and exports one symbol.
function(vm_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} MODULE ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES PREFIX "")
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  # Tests run from tests/ of the build tree and look beside themselves.
  add_custom_command(TARGET ${name} POST_BUILD
                     COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/tests
                     COMMAND ${CMAKE_COMMAND} -E create_symlink ../${name}.so
                             ${CMAKE_BINARY_DIR}/tests/${name}.so)
  install(TARGETS ${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/vm-run)
endfunction()

function(vm_folders)
  foreach(folder ${ARGN})
    if(EXISTS ${CMAKE_SOURCE_DIR}/${folder}/CMakeLists.txt)
      add_subdirectory(${folder})
    endif()
  endforeach()
endfunction()

find_package(PkgConfig REQUIRED)
pkg_check_modules(GLIB REQUIRED IMPORTED_TARGET glib-2.0)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
